/* Damaged blocks of weights, wild samples and wild options against the engine and its detector, for the sanitizers to watch (make fuzz).
 *
 *     fuzz_c_engine SECONDS SEED BLOCK...
 *
 * Each round damages a block (words of its header more often), sums it anew, so that the checksum does not stop it, and
 * feeds what is accepted in random cuts, from memory of exactly the size that was asked for.
 */
#include "kws_detector.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MOST_SAMPLES 700u
#define MOST_MEMORY (1u << 20)
#define LABELS 9u

static uint64_t state;

static uint32_t draw(uint32_t below) { /* xorshift64* */
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return (uint32_t)((state * 2685821657736338717u) >> 33) % below;
}

static void on_frame(void *user, const float *logits) {
    volatile float *const sink = user;
    *sink = logits[0];
}

static void on_detection(void *user, const kws_detection *detection) {
    (void)user;
    if (detection->end <= detection->start || detection->time < detection->end) {
        abort();
    }
}

static void damage(uint32_t *words, uint32_t n) {
    static const uint32_t telling[] = {0, 1, 2, 3, 7, 8, 15, 16, 255, 1024, 4096, 8192, 0x7F800000, 0x7F7FFFFF, 0xFFFFFFFF};
    for (uint32_t i = draw(4); i > 0u; --i) {
        const uint32_t at = draw(3) != 0u ? 5u + draw(58) : draw(n); /* header and shapes */
        words[at] = draw(2) != 0u ? telling[draw(sizeof telling / sizeof *telling)] : draw(0x7FFFFFFF) << draw(2);
        words[at] = draw(4) == 0u ? words[at] : words[at] >> draw(32);
    }
    words[2] = 4u * n;
    words[3] = words[4] = 0u;
    for (uint32_t i = 5; i < n; ++i) {
        words[3] += words[i];
        words[4] += words[3];
    }
}

static void feed(kws_stream *stream) {
    static const float telling[] = {0.0f, 1.0f, -1.0f, 9.99f, -9.99f, 1e-38f, 1e-44f};
    volatile float sink = 0.0f;
    for (uint32_t call = draw(6); call > 0u; --call) {
        const uint32_t n = draw(MOST_SAMPLES);
        int16_t *const integers = malloc(n * sizeof *integers + 1u);
        float *const floats = malloc(n * sizeof *floats + 1u);
        for (uint32_t i = 0; i < n; ++i) {
            integers[i] = (int16_t)(draw(65536) - 32768u);
            floats[i] = draw(8) == 0u ? telling[draw(7)] : (float)integers[i] / 32768.0f;
        }
        (void)kws_feed_int16(stream, integers, n, on_frame, (void *)(uintptr_t)&sink);
        (void)kws_feed_float(stream, floats, n, draw(2) != 0u ? on_frame : NULL, (void *)(uintptr_t)&sink);
        free(integers);
        free(floats);
    }
    (void)kws_flush(stream, on_frame, (void *)(uintptr_t)&sink);
}

/* A detector of random options on random logits, from memory of exactly the size that it asks for: 1 if all is well. */
static int detect(void) {
    float thresholds[LABELS], bias[LABELS], logits[LABELS];
    uint8_t is_keyword[LABELS];
    uint32_t longer[2u * LABELS];
    kws_detector detector;
    const uint32_t n = 1u + draw(LABELS);
    for (uint32_t k = 0; k < LABELS; ++k) {
        thresholds[k] = (float)draw(100) / 100.0f;
        bias[k] = (float)draw(10) - 5.0f;
        is_keyword[k] = (uint8_t)draw(2);
        longer[2u * k] = draw(n + (draw(20) == 0u));
        longer[2u * k + 1u] = draw(n);
    }
    const kws_detector_options options = {n, 1u + draw(1000), draw(5), draw(3), draw(3), draw(40), draw(5), draw(9),
        draw(30), (float)draw(20) / 18.0f, thresholds, bias, is_keyword, longer, draw(LABELS + 1u)};
    const size_t size = kws_detector_memory_size(&options);
    if (size == 0u) {
        return 1;
    }
    void *const memory = malloc(size);
    if (kws_detector_init(&detector, &options, memory, size - 1u) != KWS_ERROR_MEMORY ||
        kws_detector_init(&detector, &options, memory, size) != KWS_OK) {
        return 0;
    }
    for (uint32_t frame = 0; frame < 300u; ++frame) {
        for (uint32_t k = 0; k < n; ++k) {
            logits[k] = (float)draw(200) / 10.0f - (draw(30) == 0u ? 1e30f : 10.0f);
        }
        (void)kws_detector_push(&detector, logits, draw(9) != 0u ? on_detection : NULL, NULL);
    }
    (void)kws_detector_flush(&detector, on_detection, NULL);
    free(memory);
    return 1;
}

int main(int argc, char **argv) {
    unsigned long rounds = 0, accepted = 0;
    const time_t end = time(NULL) + (argc > 1 ? atoi(argv[1]) : 1);
    state = argc > 2 ? (uint64_t)atoll(argv[2]) * 2u + 1u : 1u;
    while (argc > 3 && time(NULL) < end) {
        FILE *const file = fopen(argv[3 + (int)draw((uint32_t)argc - 3u)], "rb");
        if (file == NULL || fseek(file, 0, SEEK_END) != 0) {
            return 2;
        }
        const size_t size = (size_t)ftell(file);
        uint32_t *const block = malloc(size);
        rewind(file);
        if (fread(block, 1, size, file) != size) {
            return 2;
        }
        (void)fclose(file);
        uint32_t n = (uint32_t)(size / 4u);
        damage(block, n);
        if (draw(8) == 0u) {
            n = draw(n + 1u); /* cut off */
        }
        uint32_t *const exact = malloc(4u * n + 1u);
        memcpy(exact, block, 4u * n);
        kws_model model;
        kws_stream stream;
        if (kws_model_init(&model, exact, 4u * (size_t)n) == KWS_OK && kws_memory_size(&model) <= MOST_MEMORY) {
            const size_t memory_size = kws_memory_size(&model);
            void *const memory = malloc(memory_size);
            if (kws_init(&stream, &model, memory, memory_size - 1u) != KWS_ERROR_MEMORY ||
                kws_init(&stream, &model, memory, memory_size) != KWS_OK) {
                return 3;
            }
            feed(&stream);
            free(memory);
            ++accepted;
        }
        free(exact);
        free(block);
        if (!detect()) {
            return 4;
        }
        ++rounds;
    }
    (void)printf("%lu blocks, %lu of them accepted and fed\n", rounds, accepted);
    return 0;
}
