/* Damaged blocks of weights and wild samples against the engine, for the sanitizers to watch (make fuzz).
 *
 *     fuzz_c_engine SECONDS SEED BLOCK...
 *
 * Each round damages a block (words of its header more often), sums it anew, so that the checksum does not stop it, and
 * feeds what is accepted in random cuts, from memory of exactly the size that was asked for.
 */
#include "kws.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MOST_SAMPLES 700u
#define MOST_MEMORY (1u << 20)

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

static void damage(uint32_t *words, uint32_t n) {
    static const uint32_t telling[] = {0, 1, 2, 3, 7, 8, 15, 16, 255, 1024, 4096, 8192, 0x7F800000, 0x7F7FFFFF, 0xFFFFFFFF};
    for (uint32_t i = draw(4); i > 0u; --i) {
        const uint32_t at = draw(3) != 0u ? 5u + draw(26) : draw(n);
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
        ++rounds;
    }
    (void)printf("%lu blocks, %lu of them accepted and fed\n", rounds, accepted);
    return 0;
}
