/* Listen to PCM on standard input: int16, little-endian, one channel, @SAMPLE_RATE@ Hz.
 *
 *     ./@NAME@ < audio.raw              a line for each keyword that becomes the likeliest label
 *     ./@NAME@ --logits < audio.raw     every frame's logits, as text that gives each float back exactly
 */
#include "@NAME@_model.h"
#include "kws.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define CHUNK 160u

static uint32_t memory[@PREFIX@_MEMORY_SIZE / 4u];

typedef struct {
    unsigned long frame;
    unsigned best;
    int all;
} listener;

static void on_frame(void *user, const float *logits) {
    listener *const self = user;
    unsigned best = 0;
    for (unsigned k = 0; k < @PREFIX@_N_LABELS; ++k) {
        best = logits[k] > logits[best] ? k : best;
        if (self->all != 0) {
            (void)printf("%s%.9g", k > 0u ? " " : "", (double)logits[k]);
        }
    }
    ++self->frame;
    if (self->all != 0) {
        (void)printf("\n");
    } else if (best != self->best && @NAME@_labels[best][0] != '_') {
        (void)printf("%.2f s %s\n", (double)self->frame * @PREFIX@_FRAME_LENGTH / @PREFIX@_SAMPLE_RATE,
                     @NAME@_labels[best]);
        (void)fflush(stdout);
    }
    self->best = best;
}

int main(int argc, char **argv) {
    kws_model model;
    kws_stream stream;
    listener self = {0, 0, 0};
    self.all = argc > 1 && strcmp(argv[1], "--logits") == 0;
    int error = kws_model_init(&model, @NAME@_block, sizeof @NAME@_block);
    if (error == KWS_OK) {
        error = kws_init(&stream, &model, memory, sizeof memory);
    }
    unsigned char bytes[2u * CHUNK];
    size_t n;
    while (error == KWS_OK && (n = fread(bytes, 2, CHUNK, stdin)) > 0u) {
        int16_t samples[CHUNK];
        for (size_t i = 0; i < n; ++i) {
            samples[i] = (int16_t)(bytes[2u * i] | bytes[2u * i + 1u] << 8);
        }
        error = kws_feed_int16(&stream, samples, n, on_frame, &self);
    }
    if (error == KWS_OK) {
        error = kws_flush(&stream, on_frame, &self);
    }
    if (error != KWS_OK) {
        (void)fprintf(stderr, "error %d of kws.h\n", error);
    }
    return error != KWS_OK;
}
