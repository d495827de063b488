/* The detector of kws_detector.h. Times are kept as frames since something, at most as long as they matter, so that a
 * stream may go on for ever. Sums over the window are taken anew in every frame, oldest first: nothing drifts. */
#include "kws_detector.h"
#include "kws_math.h"

#define MAX_LOGIT 70.0f /* exp of it, summed over the longest window, stays finite */
#define MAX_FRAMES 60000u
#define MAX_LABELS 10000u
#define TINY FLT_MIN
#define STRONG 0.1f

static uint32_t least(uint32_t a, uint32_t b) {
    return a < b ? a : b;
}

static float larger(float a, float b) {
    return a > b ? a : b;
}

/* ---- Evidence ----------------------------------------------------------------------------------------------------- */

/* Evidence [n_labels] of the frame `age` frames ago. */
static float *frame_of(const kws_detector *detector, uint32_t age) {
    const uint32_t window = detector->options->window, newest = detector->newest;
    const size_t at = newest >= age ? newest - age : newest + window - age;
    return detector->evidence + at * detector->options->n_labels;
}

static float total(const float *x, uint32_t n) {
    float sum = 0.0f;
    for (uint32_t k = 0; k < n; ++k) {
        sum += x[k];
    }
    return sum;
}

/* A frame's logits take the place of the oldest frame's evidence. */
static void gather(kws_detector *detector, const float *logits) {
    const kws_detector_options *const options = detector->options;
    const uint32_t n = options->n_labels;
    detector->newest = detector->newest + 1u == options->window ? 0u : detector->newest + 1u;
    float *const to = frame_of(detector, 0), highest = logits[0] + options->bias[0];
    for (uint32_t k = 0; k < n; ++k) {
        to[k] = logits[k] + options->bias[k];
        highest = larger(highest, to[k]);
    }
    for (uint32_t k = 0; k < n; ++k) {
        const float z = options->pooling == KWS_POOL_MEAN ? to[k] - highest : to[k];
        to[k] = exponential(z > MAX_LOGIT ? MAX_LOGIT : larger(z, -MAX_LOGIT));
    }
    if (options->pooling == KWS_POOL_MEAN) {
        const float share = 1.0f / total(to, n);
        for (uint32_t k = 0; k < n; ++k) {
            to[k] *= share;
        }
    }
    float *const sums = detector->sums;
    memset(sums, 0, n * sizeof *sums);
    for (uint32_t age = options->window; age-- > 0u;) {
        const float *const from = frame_of(detector, age);
        for (uint32_t k = 0; k < n; ++k) {
            sums[k] += from[k];
        }
    }
}

/* The score of label k that has gathered `own` evidence where all labels gathered `sums`. */
static float score_of(const kws_detector *detector, uint32_t k, float own, const float *sums) {
    const kws_detector_options *const options = detector->options;
    const int is_ratio = options->score == KWS_SCORE_LOG_RATIO, only_rivals = is_ratio && detector->has_rivals != 0u;
    float others = 0.0f;
    for (uint32_t j = 0; j < options->n_labels; ++j) {
        if (j != k && !(only_rivals && options->is_keyword[j] != 0u)) {
            others += sums[j];
        }
    }
    return is_ratio ? logarithm(larger(own, TINY)) - logarithm(larger(others, TINY)) : own / larger(own + others, TINY);
}

/* ---- Detections --------------------------------------------------------------------------------------------------- */

/* The end of the block that the newest frame belongs to. */
static uint64_t decided(const kws_detector *detector) {
    const uint64_t block = detector->options->block_frames;
    return (detector->frames + block - 1u) / block * block * detector->options->frame_length;
}

/* Evidence of label k over the frames that were not reported; its strongest frame and what brackets it, if wanted. */
static float fresh_evidence(const kws_detector *detector, uint32_t k, kws_detection *bracket) {
    const uint32_t fresh = detector->tracks[k].fresh;
    const uint32_t n = detector->frames < fresh ? (uint32_t)detector->frames : fresh;
    float sum = 0.0f, highest = 0.0f;
    for (uint32_t age = n; age-- > 0u;) {
        const float own = frame_of(detector, age)[k];
        sum += own;
        highest = larger(highest, own);
    }
    if (bracket != NULL) {
        uint32_t first = n, last = n;
        for (uint32_t age = n; age-- > 0u;) {
            if (frame_of(detector, age)[k] >= STRONG * highest) {
                first = first == n ? age : first;
                last = age;
            }
        }
        bracket->start = (detector->frames - 1u - first) * detector->options->frame_length;
        bracket->end = (detector->frames - last) * detector->options->frame_length;
    }
    return sum;
}

/* Whether label `longer` is a longer keyword that k is part of; of any one, for n_labels. */
static int is_part(const kws_detector_options *options, uint32_t k, uint32_t longer) {
    int found = 0;
    for (uint32_t i = 0; i < options->n_longer; ++i) {
        const uint32_t *const pair = options->longer + 2u * (size_t)i;
        found |= pair[0] == k && (longer == options->n_labels || pair[1] == longer);
    }
    return found;
}

/* Report a detection now, hold it back, or drop it: one of a longer keyword silences those it is made of. */
static void arrange(kws_detector *detector, const kws_detection *detection, kws_detection_callback callback,
                    void *user) {
    const kws_detector_options *const options = detector->options;
    const uint32_t k = detection->label;
    uint32_t kept = 0;
    detector->tracks[k].since = 0u;
    for (uint32_t i = 0; i < detector->n_held; ++i) {
        if (!is_part(options, detector->held[i].detection.label, k)) {
            detector->held[kept++] = detector->held[i];
        }
    }
    detector->n_held = kept;
    if (!is_part(options, k, options->n_labels)) {
        if (callback != NULL) {
            callback(user, detection);
        }
        return;
    }
    for (uint32_t i = 0; i < options->n_longer; ++i) {
        const uint32_t *const pair = options->longer + 2u * (size_t)i;
        if (pair[0] == k && detector->tracks[pair[1]].since <= options->hold) {
            return; /* a longer one was said just before */
        }
    }
    if (detector->n_held < detector->most_held) {
        detector->held[detector->n_held].detection = *detection;
        detector->held[detector->n_held++].wait = options->hold;
    }
}

/* Report what was held back for long enough, or all of it. */
static void release(kws_detector *detector, int all, kws_detection_callback callback, void *user) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < detector->n_held; ++i) {
        kws_held *const held = &detector->held[i];
        if (all != 0 || held->wait == 0u) {
            held->detection.time = decided(detector);
            if (callback != NULL) {
                callback(user, &held->detection);
            }
        } else {
            --held->wait;
            detector->held[kept++] = *held;
        }
    }
    detector->n_held = kept;
}

/* The newest frame for keyword k: 1 if it is detected. all: the evidence of all labels in the window; most: that of the
 * keyword that has most. */
static int follow(kws_detector *detector, uint32_t k, float all, float most, kws_detection *detection) {
    const kws_detector_options *const options = detector->options;
    const float threshold = options->thresholds[k], own = detector->sums[k];
    const int is_ratio = options->score == KWS_SCORE_LOG_RATIO;
    kws_track *const track = &detector->tracks[k];
    if (track->is_active != 0u) {
        track->wait -= track->wait > 0u ? 1u : 0u;
        const float *const alone = frame_of(detector, 0);
        const float limit = is_ratio ? threshold + logarithm(options->release) : threshold * options->release;
        if (track->wait > 0u || !(score_of(detector, k, alone[k], alone) < limit)) {
            return 0;
        }
        track->is_active = 0u;
        track->fresh = 1u;
    }
    if (is_ratio ? own < most : own < 0.999f * threshold * all) { /* it cannot reach it: the common case, made quick */
        track->run = 0u;
        return 0;
    }
    detection->score = score_of(detector, k, track->fresh < options->window ? fresh_evidence(detector, k, NULL) : own,
                                detector->sums);
    track->run = detection->score >= threshold ? least(track->run + 1u, options->min_frames) : 0u;
    if (track->run < options->min_frames) {
        return 0;
    }
    (void)fresh_evidence(detector, k, detection);
    detection->label = k;
    detection->time = decided(detector);
    track->is_active = 1u;
    track->wait = options->refractory;
    track->run = 0u;
    return 1;
}

/* ---- The interface ------------------------------------------------------------------------------------------------ */

static int is_within(uint32_t value, uint32_t high) {
    return value >= 1u && value <= high;
}

static int is_sound(const kws_detector_options *options) {
    if (!is_within(options->n_labels, MAX_LABELS) || !is_within(options->frame_length, 1u << 24) ||
        !is_within(options->block_frames, 1u << 24) || options->pooling > KWS_POOL_MEAN ||
        options->score > KWS_SCORE_LOG_RATIO || !is_within(options->window, MAX_FRAMES) ||
        !is_within(options->min_frames, MAX_FRAMES) || !is_within(options->refractory, MAX_FRAMES) ||
        !is_within(options->hold, MAX_FRAMES) || !(options->release > 0.0f && options->release <= 1.0f) ||
        options->thresholds == NULL || options->bias == NULL || options->is_keyword == NULL ||
        (options->longer == NULL && options->n_longer > 0u) || options->n_longer > MAX_LABELS * MAX_LABELS) {
        return 0;
    }
    for (uint32_t i = 0; i < options->n_longer; ++i) {
        const uint32_t *const pair = options->longer + 2u * (size_t)i;
        if (pair[0] >= options->n_labels || pair[1] >= options->n_labels) {
            return 0;
        }
    }
    return 1;
}

/* Most detections that wait at once: each keyword is detected once in so many frames. */
static uint32_t most_held(const kws_detector_options *options) {
    uint32_t keywords = 0;
    for (uint32_t k = 0; k < options->n_labels && options->n_longer > 0u; ++k) {
        keywords += is_part(options, k, options->n_labels) ? 1u : 0u;
    }
    return keywords * (options->hold / (options->refractory + options->min_frames - 1u) + 1u);
}

size_t kws_detector_memory_size(const kws_detector_options *options) {
    if (options == NULL || !is_sound(options)) {
        return 0u;
    }
    const size_t n = options->n_labels;
    return most_held(options) * sizeof(kws_held) + n * sizeof(kws_track) + (options->window + 1u) * n * sizeof(float);
}

int kws_detector_init(kws_detector *detector, const kws_detector_options *options, void *memory, size_t memory_size) {
    if (detector == NULL || options == NULL || memory == NULL) {
        return KWS_ERROR_NULL;
    }
    const size_t needed = kws_detector_memory_size(options);
    if (needed == 0u) {
        return KWS_ERROR_VALUE;
    }
    if ((uintptr_t)memory % 8u != 0u) {
        return KWS_ERROR_ALIGNMENT;
    }
    if (memory_size < needed) {
        return KWS_ERROR_MEMORY;
    }
    memset(detector, 0, sizeof *detector);
    detector->options = options;
    detector->most_held = most_held(options);
    detector->held = memory;
    detector->tracks = (kws_track *)(void *)(detector->held + detector->most_held);
    detector->evidence = (float *)(void *)(detector->tracks + options->n_labels);
    detector->sums = detector->evidence + (size_t)options->window * options->n_labels;
    for (uint32_t k = 0; k < options->n_labels; ++k) {
        detector->has_rivals |= options->is_keyword[k] == 0u ? 1u : 0u;
    }
    return kws_detector_reset(detector);
}

int kws_detector_reset(kws_detector *detector) {
    if (detector == NULL || detector->options == NULL) {
        return KWS_ERROR_NULL;
    }
    const kws_detector_options *const options = detector->options;
    memset(detector->evidence, 0, ((size_t)options->window + 1u) * options->n_labels * sizeof(float)); /* and sums */
    memset(detector->tracks, 0, options->n_labels * sizeof(kws_track));
    for (uint32_t k = 0; k < options->n_labels; ++k) {
        detector->tracks[k].fresh = options->window;
        detector->tracks[k].since = options->hold + 1u;
    }
    detector->frames = 0u;
    detector->newest = detector->n_held = 0u;
    return KWS_OK;
}

int kws_detector_push(kws_detector *detector, const float *logits, kws_detection_callback callback, void *user) {
    if (detector == NULL || detector->options == NULL || logits == NULL) {
        return KWS_ERROR_NULL;
    }
    const kws_detector_options *const options = detector->options;
    float most = 0.0f;
    for (uint32_t k = 0; k < options->n_labels; ++k) {
        if ((to_bits(logits[k]) & 0x7F800000u) == 0x7F800000u) {
            return KWS_ERROR_VALUE;
        }
    }
    gather(detector, logits);
    ++detector->frames;
    const float all = total(detector->sums, options->n_labels);
    for (uint32_t k = 0; k < options->n_labels; ++k) {
        kws_track *const track = &detector->tracks[k];
        track->fresh = least(track->fresh + 1u, options->window);
        track->since = least(track->since + 1u, options->hold + 1u);
        most = options->is_keyword[k] != 0u ? larger(most, detector->sums[k]) : most;
    }
    for (uint32_t k = 0; k < options->n_labels; ++k) {
        kws_detection detection;
        if (options->is_keyword[k] != 0u && follow(detector, k, all, most, &detection)) {
            arrange(detector, &detection, callback, user);
        }
    }
    release(detector, 0, callback, user);
    return KWS_OK;
}

int kws_detector_flush(kws_detector *detector, kws_detection_callback callback, void *user) {
    if (detector == NULL || detector->options == NULL) {
        return KWS_ERROR_NULL;
    }
    release(detector, 1, callback, user);
    return kws_detector_reset(detector);
}

int kws_detector_posteriors(const kws_detector *detector, float *posteriors) {
    if (detector == NULL || detector->options == NULL || posteriors == NULL) {
        return KWS_ERROR_NULL;
    }
    const uint32_t n = detector->options->n_labels;
    const float all = larger(total(detector->sums, n), TINY);
    for (uint32_t k = 0; k < n; ++k) {
        posteriors[k] = detector->sums[k] / all;
    }
    return KWS_OK;
}
