/* The engine on an emulated board: start-up, semihosting and a main that times it. See "make run-board".
 *
 * Reads clip.raw (int16, @SAMPLE_RATE@ Hz), writes logits.raw (float32, little-endian) and detections.raw (kws_detection) and
 * prints what it cost.
 */
#include "@NAME@_model.h"

#include <stdint.h>

#define CHUNK 160u
#define STACK_WORDS 1024u
#define PAINT 0xA5A5A5A5u
/* qemu -icount shift=0: an instruction takes 1 ns, and SysTick counts at BOARD_HZ. */
#define INSTRUCTIONS(TICKS) ((TICKS) * 1000u / (BOARD_HZ / 1000000u))

extern uint32_t load_data[], start_data[], end_data[], start_bss[], end_bss[];

static uint32_t stack[STACK_WORDS] __attribute__((section(".stack"), aligned(8)));
static uint32_t memory[@PREFIX@_MEMORY_SIZE / 4u];
static uint64_t detector_memory[(@PREFIX@_DETECTOR_MEMORY_SIZE + 7u) / 8u];
static kws_detector detector;
static kws_model model;
static kws_stream stream;
static int logits_file, detections_file;

int main(void);
void reset(void);
void stop(void);

__attribute__((section(".vectors"), used)) static void (*const vectors[16])(void) = {
    (void (*)(void))(uintptr_t)(stack + STACK_WORDS), reset, stop, stop, stop, stop, stop};

static int semihosting(int operation, const void *argument) {
    register int r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

static int open_file(const char *name, uint32_t length, uint32_t mode) {
    const uint32_t arguments[3] = {(uint32_t)name, mode, length};
    return semihosting(1, arguments);
}

static uint32_t transfer(int operation, int file, const void *data, uint32_t size) { /* bytes left over */
    const uint32_t arguments[3] = {(uint32_t)file, (uint32_t)data, size};
    return (uint32_t)semihosting(operation, arguments);
}

static void print(const char *name, uint32_t value) {
    char digits[12];
    uint32_t at = sizeof digits - 1u;
    digits[at--] = '\0';
    digits[at] = '\n';
    do {
        digits[--at] = (char)('0' + value % 10u);
        value /= 10u;
    } while (value > 0u && at > 0u);
    (void)semihosting(4, name);
    (void)semihosting(4, digits + at);
}

void stop(void) {
    const uint32_t arguments[2] = {0x20024u, 1u}; /* run-time error */
    (void)semihosting(0x20, arguments);
    for (;;) {
    }
}

void reset(void) {
    *(volatile uint32_t *)0xE000ED88u |= 0xFu << 20; /* the floating-point unit */
    __asm__ volatile("dsb\n isb");
    for (uint32_t *to = start_data, *from = load_data; to < end_data; ++to, ++from) {
        *to = *from;
    }
    for (uint32_t *to = start_bss; to < end_bss; ++to) {
        *to = 0u;
    }
    const uint32_t arguments[2] = {0x20026u, (uint32_t)main()};
    (void)semihosting(0x20, arguments);
    stop();
}

static void on_detection(void *user, const kws_detection *detection) {
    (void)user;
    (void)semihosting(4, @NAME@_labels[detection->label]);
    print(" begins at millisecond ", (uint32_t)(detection->start * 1000u / @PREFIX@_SAMPLE_RATE));
    if (transfer(5, detections_file, detection, sizeof *detection) != 0u) {
        stop();
    }
}

static void on_frame(void *user, const float *logits) {
    (void)user;
    if (transfer(5, logits_file, logits, @PREFIX@_N_LABELS * 4u) != 0u ||
        kws_detector_push(&detector, logits, on_detection, 0) != KWS_OK) {
        stop();
    }
}

int main(void) {
    volatile uint32_t *const systick = (volatile uint32_t *)0xE000E010u; /* control, reload, value */
    static int16_t samples[CHUNK];
    uint32_t ticks = 0, n_samples = 0, free_words = 0;
    uint32_t *const here = __builtin_frame_address(0);
    for (uint32_t *word = stack; word < here - 16; ++word) {
        *word = PAINT;
    }
    const int clip = open_file("clip.raw", 8, 1);
    logits_file = open_file("logits.raw", 10, 5);
    detections_file = open_file("detections.raw", 14, 5);
    if (clip < 0 || logits_file < 0 || detections_file < 0 ||
        kws_model_init(&model, @NAME@_block, sizeof @NAME@_block) != KWS_OK ||
        kws_init(&stream, &model, memory, sizeof memory) != KWS_OK ||
        kws_detector_init(&detector, &@NAME@_detector, detector_memory, sizeof detector_memory) != KWS_OK) {
        return 1;
    }
    systick[1] = 0xFFFFFFu;
    systick[2] = 0u;
    systick[0] = 5u; /* the processor's clock */
    for (;;) {
        const uint32_t n = (uint32_t)(sizeof samples - transfer(6, clip, samples, sizeof samples)) / 2u;
        if (n == 0u) {
            break;
        }
        const uint32_t before = systick[2];
        if (kws_feed_int16(&stream, samples, n, on_frame, 0) != KWS_OK) {
            return 2;
        }
        ticks += (before - systick[2]) & 0xFFFFFFu;
        n_samples += n;
    }
    if (kws_flush(&stream, on_frame, 0) != KWS_OK || kws_detector_flush(&detector, on_detection, 0) != KWS_OK ||
        n_samples == 0u) {
        return 3;
    }
    while (stack[free_words] == PAINT) {
        ++free_words;
    }
    print("samples ", n_samples);
    print("instructions a second of audio ",
          (uint32_t)INSTRUCTIONS((uint64_t)ticks * @PREFIX@_SAMPLE_RATE / n_samples));
    print("bytes of memory ", sizeof memory + sizeof detector_memory + sizeof model + sizeof stream + sizeof detector);
    print("bytes of stack ", 4u * (STACK_WORDS - free_words));
    return 0;
}
