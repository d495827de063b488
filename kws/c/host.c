/* The engine as a library for the host: logits and detections gathered into arrays instead of handed to callbacks. */
#include "kws_detector.h"

#include <string.h>

#if defined(_WIN32)
#define KWS_API __declspec(dllexport)
#else
#define KWS_API __attribute__((visibility("default")))
#endif

/* What one of many streams is given, and what became of it: as kws_host_spot. */
typedef struct {
    kws_stream *stream;
    kws_detector *detector;
    const void *samples;
    size_t n;
    kws_detection *found;
    int64_t count;
} kws_host_job;

/* Rows of n numbers each, written one behind the other from `next` on. */
typedef struct {
    float *next;
    size_t n;
    size_t rows;
} kws_host_gathered;

KWS_API int kws_host_has_avx2(void);
KWS_API size_t kws_host_model_bytes(void);
KWS_API size_t kws_host_stream_bytes(void);
KWS_API size_t kws_host_memory_bytes(const kws_model *model);
KWS_API int kws_host_model_init(kws_model *model, const void *block, size_t block_size);
KWS_API int kws_host_init(kws_stream *stream, const kws_model *model, void *memory, size_t memory_size);
KWS_API int kws_host_reset(kws_stream *stream);
KWS_API int kws_host_watch(kws_stream *stream, kws_host_gathered *spectra);
KWS_API int64_t kws_host_feed(kws_stream *stream, const void *samples, int is_float, size_t n, float *logits);
KWS_API int64_t kws_host_flush(kws_stream *stream, float *logits);
KWS_API size_t kws_host_detector_bytes(void);
KWS_API size_t kws_host_detector_memory_bytes(const kws_detector_options *options);
KWS_API int kws_host_detector_init(kws_detector *detector, const kws_detector_options *options, void *memory,
                                   size_t memory_size);
KWS_API int kws_host_detector_reset(kws_detector *detector);
KWS_API int kws_host_posteriors(const kws_detector *detector, float *posteriors);
KWS_API int64_t kws_host_detect(kws_detector *detector, const float *logits, size_t frames, kws_detection *found);
KWS_API int64_t kws_host_spot(kws_stream *stream, kws_detector *detector, const void *samples, int is_float, size_t n,
                              kws_detection *found);
KWS_API void kws_host_spot_many(kws_host_job *jobs, size_t n_jobs, int is_float);
KWS_API int64_t kws_host_end(kws_stream *stream, kws_detector *detector, kws_detection *found);

static void gather(void *user, const float *row) {
    kws_host_gathered *const to = user;
    memcpy(to->next, row, to->n * sizeof *row);
    to->next += to->n;
    ++to->rows;
}

int kws_host_has_avx2(void) {
#if (defined(__x86_64__) || defined(__i386__)) && defined(__GNUC__)
    return __builtin_cpu_supports("avx2") != 0;
#else
    return 0;
#endif
}

size_t kws_host_model_bytes(void) {
    return sizeof(kws_model);
}

size_t kws_host_stream_bytes(void) {
    return sizeof(kws_stream);
}

size_t kws_host_memory_bytes(const kws_model *model) {
    return kws_memory_size(model);
}

int kws_host_model_init(kws_model *model, const void *block, size_t block_size) {
    return kws_model_init(model, block, block_size);
}

int kws_host_init(kws_stream *stream, const kws_model *model, void *memory, size_t memory_size) {
    return kws_init(stream, model, memory, memory_size);
}

int kws_host_reset(kws_stream *stream) {
    return kws_reset(stream);
}

/* Spectra of the hops to come, as kws_watch, go to `spectra`, whose `next` the caller sets before each call. */
int kws_host_watch(kws_stream *stream, kws_host_gathered *spectra) {
    if (stream == NULL || stream->model == NULL || spectra == NULL) {
        return KWS_ERROR_NULL;
    }
    spectra->n = stream->model->n_mels > 0u ? stream->model->n_mels : stream->model->n_bins;
    return kws_watch(stream, gather, spectra);
}

/* n samples, int16 or float -> frames of logits written, or an error. logits: room for every frame that may come. */
int64_t kws_host_feed(kws_stream *stream, const void *samples, int is_float, size_t n, float *logits) {
    kws_host_gathered to = {logits, 0, 0};
    if (stream == NULL || stream->model == NULL || logits == NULL) {
        return KWS_ERROR_NULL;
    }
    to.n = stream->model->n_labels;
    const int error = is_float != 0 ? kws_feed_float(stream, samples, n, gather, &to)
                                    : kws_feed_int16(stream, samples, n, gather, &to);
    return error != KWS_OK ? error : (int64_t)to.rows;
}

/* As kws_host_feed for the rest of the last block; the stream is then at time 0. */
int64_t kws_host_flush(kws_stream *stream, float *logits) {
    kws_host_gathered to = {logits, 0, 0};
    if (stream == NULL || stream->model == NULL || logits == NULL) {
        return KWS_ERROR_NULL;
    }
    to.n = stream->model->n_labels;
    const int error = kws_flush(stream, gather, &to);
    return error != KWS_OK ? error : (int64_t)to.rows;
}

size_t kws_host_detector_bytes(void) {
    return sizeof(kws_detector);
}

size_t kws_host_detector_memory_bytes(const kws_detector_options *options) {
    return kws_detector_memory_size(options);
}

int kws_host_detector_init(kws_detector *detector, const kws_detector_options *options, void *memory,
                           size_t memory_size) {
    return kws_detector_init(detector, options, memory, memory_size);
}

int kws_host_detector_reset(kws_detector *detector) {
    return kws_detector_reset(detector);
}

int kws_host_posteriors(const kws_detector *detector, float *posteriors) {
    return kws_detector_posteriors(detector, posteriors);
}

typedef struct {
    kws_detector *detector;
    kws_detection *found;
    int64_t count;
    int error;
} spotted;

static void keep(void *user, const kws_detection *detection) {
    spotted *const to = user;
    to->found[to->count++] = *detection;
}

static void detect(void *user, const float *logits) {
    spotted *const to = user;
    if (to->error == KWS_OK) {
        to->error = kws_detector_push(to->detector, logits, keep, to);
    }
}

/* Frames of logits -> detections written, or an error. found: room for all that may come. */
int64_t kws_host_detect(kws_detector *detector, const float *logits, size_t frames, kws_detection *found) {
    spotted to = {detector, found, 0, KWS_OK};
    if (detector == NULL || detector->options == NULL || logits == NULL || found == NULL) {
        return KWS_ERROR_NULL;
    }
    for (size_t t = 0; t < frames; ++t) {
        detect(&to, logits + t * detector->options->n_labels);
    }
    return to.error != KWS_OK ? to.error : to.count;
}

/* n samples, int16 or float -> detections written, or an error. found: room for all that may come. */
int64_t kws_host_spot(kws_stream *stream, kws_detector *detector, const void *samples, int is_float, size_t n,
                      kws_detection *found) {
    spotted to = {detector, found, 0, KWS_OK};
    if (detector == NULL || found == NULL) {
        return KWS_ERROR_NULL;
    }
    const int error = is_float != 0 ? kws_feed_float(stream, samples, n, detect, &to)
                                    : kws_feed_int16(stream, samples, n, detect, &to);
    return error != KWS_OK ? error : to.error != KWS_OK ? to.error : to.count;
}

void kws_host_spot_many(kws_host_job *jobs, size_t n_jobs, int is_float) {
    for (size_t i = 0; i < n_jobs; ++i) {
        kws_host_job *const job = &jobs[i];
        job->count = kws_host_spot(job->stream, job->detector, job->samples, is_float, job->n, job->found);
    }
}

/* As kws_host_spot for the rest of the stream; both are then at time 0. */
int64_t kws_host_end(kws_stream *stream, kws_detector *detector, kws_detection *found) {
    spotted to = {detector, found, 0, KWS_OK};
    if (detector == NULL || found == NULL) {
        return KWS_ERROR_NULL;
    }
    int error = stream != NULL ? kws_flush(stream, detect, &to) : KWS_OK;
    error = error != KWS_OK ? error : to.error;
    return error != KWS_OK ? error : (error = kws_detector_flush(detector, keep, &to)) != KWS_OK ? error : to.count;
}
