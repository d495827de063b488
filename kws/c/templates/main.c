/* Listen to PCM on standard input: int16, little-endian, one channel, @SAMPLE_RATE@ Hz.
 *
 *     ./@NAME@ < audio.raw              a line for each detection: seconds from where to where, keyword, score
 *     ./@NAME@ --logits < audio.raw     every frame's logits, as text that gives each float back exactly
 */
#include "@NAME@_model.h"

#include <stdio.h>

#define CHUNK 160u

static uint32_t memory[@PREFIX@_MEMORY_SIZE / 4u];
static uint64_t detector_memory[(@PREFIX@_DETECTOR_MEMORY_SIZE + 7u) / 8u];
static kws_detector detector;

static void on_detection(void *user, const kws_detection *detection) {
    (void)user;
    (void)printf("%.3f %.3f %s %.6g\n", (double)detection->start / @PREFIX@_SAMPLE_RATE,
                 (double)detection->end / @PREFIX@_SAMPLE_RATE, @NAME@_labels[detection->label],
                 (double)detection->score);
    (void)fflush(stdout);
}

static void on_frame(void *user, const float *logits) {
    const int *const all = user;
    if (*all == 0) {
        (void)kws_detector_push(&detector, logits, on_detection, NULL);
        return;
    }
    for (unsigned k = 0; k < @PREFIX@_N_LABELS; ++k) {
        (void)printf("%s%.9g", k > 0u ? " " : "", (double)logits[k]);
    }
    (void)printf("\n");
}

int main(int argc, char **argv) {
    (void)argv;
    kws_model model;
    kws_stream stream;
    int all = argc > 1;
    int error = kws_model_init(&model, @NAME@_block, sizeof @NAME@_block);
    if (error == KWS_OK) {
        error = kws_init(&stream, &model, memory, sizeof memory);
    }
    if (error == KWS_OK) {
        error = kws_detector_init(&detector, &@NAME@_detector, detector_memory, sizeof detector_memory);
    }
    unsigned char bytes[2u * CHUNK];
    size_t n;
    while (error == KWS_OK && (n = fread(bytes, 2, CHUNK, stdin)) > 0u) {
        int16_t samples[CHUNK];
        for (size_t i = 0; i < n; ++i) {
            samples[i] = (int16_t)(bytes[2u * i] | bytes[2u * i + 1u] << 8);
        }
        error = kws_feed_int16(&stream, samples, n, on_frame, &all);
    }
    if (error == KWS_OK) {
        error = kws_flush(&stream, on_frame, &all);
    }
    if (error == KWS_OK) {
        error = kws_detector_flush(&detector, on_detection, NULL);
    }
    if (error != KWS_OK) {
        (void)fprintf(stderr, "error %d of kws.h\n", error);
    }
    return error != KWS_OK;
}
