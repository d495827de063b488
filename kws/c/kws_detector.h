/* Detections out of the logits of kws.h: what kws/runtime/detector.py does, frame by frame.
 *
 *     kws_detector detector;
 *     kws_detector_init(&detector, &options, memory, memory_size);   kws_detector_memory_size(&options) bytes
 *     kws_detector_push(&detector, logits, on_detection, user);      from the callback of kws_feed_int16
 *
 * A keyword is detected when its score, pooled over the last `window` frames, reaches its threshold for `min_frames`.
 * Evidence is reported once: an utterance lasts for `refractory` frames at least and ends with a frame that alone gives
 * less than `release` times the threshold; what the keyword gathered until then counts no more. A keyword that is part
 * of longer ones waits `hold` frames for one of them.
 */
#ifndef KWS_DETECTOR_H
#define KWS_DETECTOR_H

#include "kws.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What a label's share of a window is made of: exp of its logits, or each frame's softmax. */
enum { KWS_POOL_SUM = 0, KWS_POOL_MEAN = 1 };
/* What is compared with a threshold: the keyword's share of all evidence, or the natural logarithm of its ratio to that
 * of the labels that are no keywords (of all others, where every label is one); then the strongest keyword alone counts.
 */
enum { KWS_SCORE_POSTERIOR = 0, KWS_SCORE_LOG_RATIO = 1 };

/* All that decides. `kws export --variant c` writes those of a model; the arrays must outlive the detector. */
typedef struct kws_detector_options {
    uint32_t n_labels, frame_length;                /* of the model; samples */
    uint32_t block_frames;                          /* frames that arrive together, for kws_detection.time */
    uint32_t pooling, score;                        /* see above */
    uint32_t window, min_frames, refractory, hold;  /* frames, each at least 1 */
    float release;                                  /* above 0 and at most 1 */
    const float *thresholds, *bias;                 /* [n_labels]; bias is added to the logits */
    const uint8_t *is_keyword;                      /* [n_labels] */
    const uint32_t *longer;                         /* [n_longer][2]: a keyword and a longer one that it is part of */
    uint32_t n_longer;
} kws_detector_options;

/* One utterance. Samples are counted from the start of the stream. start, end: the first and last of the frames that
 * speak at least a tenth as strongly as the strongest; time: the end of the block of audio that decided. */
typedef struct kws_detection {
    uint32_t label;
    float score;
    uint64_t start, end, time;
} kws_detection;

/* One keyword's place in the stream, in frames. */
typedef struct kws_track {
    uint32_t is_active; /* within an utterance that was reported */
    uint32_t wait;      /* until it may end */
    uint32_t fresh;     /* frames whose evidence was not reported, at most a window */
    uint32_t run;       /* frames in a row that reached the threshold */
    uint32_t since;     /* its last detection, at most hold + 1 */
} kws_track;

typedef struct kws_held {
    kws_detection detection;
    uint32_t wait;
} kws_held;

typedef struct kws_detector {
    const kws_detector_options *options;
    kws_held *held;
    kws_track *tracks;      /* [n_labels] */
    float *evidence, *sums; /* [window][n_labels], a ring; [n_labels] over it */
    uint64_t frames;        /* seen */
    uint32_t newest, n_held, most_held, has_rivals;
} kws_detector;

typedef void (*kws_detection_callback)(void *user, const kws_detection *detection);

/* Bytes of memory that a detector needs; 0 for a null pointer and for options out of bounds. */
size_t kws_detector_memory_size(const kws_detector_options *options);

/* A detector at time 0 in the caller's memory, aligned to 8. KWS_ERROR_VALUE: options out of bounds. */
int kws_detector_init(kws_detector *detector, const kws_detector_options *options, void *memory, size_t memory_size);

/* Begin a new stream at time 0. */
int kws_detector_reset(kws_detector *detector);

/* The next frame's logits [n_labels]; the callback gets each detection. KWS_ERROR_VALUE: a logit that is not finite. */
int kws_detector_push(kws_detector *detector, const float *logits, kws_detection_callback callback, void *user);

/* End the stream: the detections that still waited for a longer keyword, then kws_detector_reset. */
int kws_detector_flush(kws_detector *detector, kws_detection_callback callback, void *user);

/* What the last window gives each label, [n_labels]; zeros before the first frame. */
int kws_detector_posteriors(const kws_detector *detector, float *posteriors);

#ifdef __cplusplus
}
#endif

#endif
