/* The engine of kws.h: front end, causal convolutions, projection, recurrent cells, head.
 *
 * Every sum is taken in one order. Outputs lie in blocks of eight lanes; a lane adds its products one after the other,
 * first input first, so plain C, SSE, AVX2, NEON and wasm SIMD, which compute several lanes at once, give the same bits.
 * exp, tanh and log are polynomials of our own, since each libm has other last bits.
 *
 * A block of weights is a sequence of little-endian 32-bit words: a header of HEADER_WORDS, then tables and layers in
 * the order in which kws_model_init takes them. There are no offsets in it: what the header says must fit exactly.
 */
#include "kws.h"

#include "kws_math.h"

#define MAGIC 0x4253574Bu /* "KWSB" */
#define HEADER_WORDS 32u
#define LANES 8u
enum { CELL_RNN = 1, CELL_GRU = 3, CELL_LSTM = 4 }; /* also the number of gates */

static inline float sigmoid(float x) {
    return 1.0f / (1.0f + exponential(-x));
}

static inline float hyperbolic_tangent(float x) {
    return 2.0f / (1.0f + exponential(-2.0f * x)) - 1.0f;
}

/* ---- Products: y[p][o] = base[o] + sum over rows r and inputs k of weight[o][r][k] * x[r * row_stride + p * step + k] */

typedef struct {
    const float *x;
    size_t row_stride, step, positions;
} inputs;

#if defined(__GNUC__) && (defined(__SSE2__) || defined(__ARM_NEON) || defined(__wasm_simd128__))
#if defined(__AVX__)
#define WIDTH 8u
#else
#define WIDTH 4u
#endif
#define PARTS (LANES / WIDTH)
typedef float vector __attribute__((vector_size(WIDTH * sizeof(float))));

#define UNROLL _Pragma("GCC unroll 8") /* else gcc keeps the sums in memory */

/* B blocks of outputs at P positions at once, their sums in registers. */
#define TILE(B, P)                                                                                                     \
    static void tile_##B##_##P(const kws_layer *layer, size_t block, const float *base, const inputs *in, size_t at,   \
                               float *y) {                                                                             \
        const size_t rows = layer->rows, length = layer->length, size = rows * length * LANES;                         \
        const float *const weights = layer->weights + block * size;                                                    \
        vector sum[B][P][PARTS];                                                                                       \
        UNROLL for (size_t b = 0; b < B; ++b)                                                                          \
            UNROLL for (size_t p = 0; p < P; ++p)                                                                      \
                memcpy(sum[b][p], base + (block + b) * LANES, sizeof sum[b][p]);                                       \
        for (size_t r = 0; r < rows; ++r) {                                                                            \
            const float *const w = weights + r * length * LANES;                                                       \
            const float *const x = in->x + r * in->row_stride + at * in->step;                                         \
            for (size_t k = 0; k < length; ++k) {                                                                      \
                UNROLL for (size_t b = 0; b < B; ++b) {                                                                \
                    vector weight[PARTS];                                                                              \
                    memcpy(weight, w + b * size + k * LANES, sizeof weight);                                           \
                    UNROLL for (size_t p = 0; p < P; ++p)                                                              \
                        UNROLL for (size_t i = 0; i < PARTS; ++i)                                                      \
                            sum[b][p][i] += weight[i] * x[p * in->step + k];                                           \
                }                                                                                                      \
            }                                                                                                          \
        }                                                                                                              \
        UNROLL for (size_t b = 0; b < B; ++b)                                                                          \
            UNROLL for (size_t p = 0; p < P; ++p)                                                                      \
                memcpy(y + ((at + p) * layer->blocks + block + b) * LANES, sum[b][p], sizeof sum[b][p]);               \
    }
TILE(1, 1)
TILE(2, 1)
TILE(4, 1)
TILE(1, 5)
#if defined(__AVX__) || defined(__aarch64__)
#define MANY_REGISTERS /* so many sums fit into them */
TILE(8, 1)
TILE(2, 5)
#endif

static void multiply_float(const kws_layer *layer, const float *base, const inputs *in, float *y) {
    size_t at = 0;
    for (; at + 5u <= in->positions; at += 5u) {
        size_t block = 0;
#if defined(MANY_REGISTERS)
        for (; block + 2u <= layer->blocks; block += 2u) {
            tile_2_5(layer, block, base, in, at, y);
        }
#endif
        for (; block < layer->blocks; ++block) {
            tile_1_5(layer, block, base, in, at, y);
        }
    }
    for (; at < in->positions; ++at) {
        size_t block = 0;
#if defined(MANY_REGISTERS)
        for (; block + 8u <= layer->blocks; block += 8u) {
            tile_8_1(layer, block, base, in, at, y);
        }
#endif
        for (; block + 4u <= layer->blocks; block += 4u) {
            tile_4_1(layer, block, base, in, at, y);
        }
        for (; block + 2u <= layer->blocks; block += 2u) {
            tile_2_1(layer, block, base, in, at, y);
        }
        for (; block < layer->blocks; ++block) {
            tile_1_1(layer, block, base, in, at, y);
        }
    }
}
#else
static void multiply_float(const kws_layer *layer, const float *base, const inputs *in, float *y) {
    const float *w = layer->weights;
    for (size_t block = 0; block < layer->blocks; ++block) {
        const float *const first = w;
        for (size_t at = 0; at < in->positions; ++at) {
            const float *const b = base + block * LANES;
            float s0 = b[0], s1 = b[1], s2 = b[2], s3 = b[3], s4 = b[4], s5 = b[5], s6 = b[6], s7 = b[7];
            w = first;
            for (size_t r = 0; r < layer->rows; ++r) {
                const float *const x = in->x + r * in->row_stride + at * in->step;
                for (size_t k = 0; k < layer->length; ++k) {
                    const float value = x[k];
                    s0 += w[0] * value;
                    s1 += w[1] * value;
                    s2 += w[2] * value;
                    s3 += w[3] * value;
                    s4 += w[4] * value;
                    s5 += w[5] * value;
                    s6 += w[6] * value;
                    s7 += w[7] * value;
                    w += LANES;
                }
            }
            float *const out = y + (at * layer->blocks + block) * LANES;
            out[0] = s0, out[1] = s1, out[2] = s2, out[3] = s3, out[4] = s4, out[5] = s5, out[6] = s6, out[7] = s7;
        }
    }
}
#endif

/* In an int8 block the first convolution stays float32: it has few weights, and their rounding costs most.
 * int8 weights lie in [blocks][rows][pairs of inputs][4 pairs of outputs], each of four bytes: for outputs o, o + 1 and
 * inputs k, k + 1 they are (o, k), (o + 1, k), (o, k + 1), (o + 1, k + 1), as Cortex-M's SXTB16 takes them apart.
 * Inputs are int16; the sums are exact, so their order is free. */
#if defined(__AVX2__)
#include <immintrin.h>
static void sum_pairs(const int8_t *w, const int16_t *x, size_t pairs, int32_t *sums) {
    const __m128i order = _mm_set_epi8(15, 13, 14, 12, 11, 9, 10, 8, 7, 5, 6, 4, 3, 1, 2, 0);
    __m256i sum = _mm256_setzero_si256();
    for (size_t k = 0; k < pairs; ++k) {
        int32_t pair;
        __m128i bytes;
        memcpy(&pair, x + 2u * k, sizeof pair);
        memcpy(&bytes, w + 16u * k, sizeof bytes);
        const __m256i weights = _mm256_cvtepi8_epi16(_mm_shuffle_epi8(bytes, order));
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(weights, _mm256_set1_epi32(pair)));
    }
    memcpy(sums, &sum, sizeof sum);
}
#elif defined(__ARM_FEATURE_SIMD32) && defined(__GNUC__)
#include <arm_acle.h>

/* The next four bytes: even ones to one pair of halves, odd ones to another. In assembler, since no function of
 * arm_acle.h rotates, and since the compiler would load all weights first and run out of registers. */
#define PAIR_OF_OUTPUTS(EVEN, ODD)                                                                                     \
    __asm__("ldr %0, [%2], #4\n\tsxtb16 %1, %0\n\tsxtb16 %0, %0, ror #8"                                               \
            : "=&r"(odd), "=&r"(even), "+r"(w)                                                                         \
            : "m"(*(const int8_t(*)[4])w));                                                                            \
    EVEN = __smlad(even, pair, EVEN);                                                                                  \
    ODD = __smlad(odd, pair, ODD)

static void sum_pairs(const int8_t *w, const int16_t *x, size_t pairs, int32_t *sums) {
    const int16_t *const end = x + 2u * pairs;
    int32_t s0 = 0, s1 = 0, s2 = 0, s3 = 0, s4 = 0, s5 = 0, s6 = 0, s7 = 0;
    while (x != end) {
        int16x2_t pair, even, odd;
        memcpy(&pair, x, 4);
        x += 2;
        PAIR_OF_OUTPUTS(s0, s1);
        PAIR_OF_OUTPUTS(s2, s3);
        PAIR_OF_OUTPUTS(s4, s5);
        PAIR_OF_OUTPUTS(s6, s7);
    }
    sums[0] = s0, sums[1] = s1, sums[2] = s2, sums[3] = s3, sums[4] = s4, sums[5] = s5, sums[6] = s6, sums[7] = s7;
}
#else
static void sum_pairs(const int8_t *w, const int16_t *x, size_t pairs, int32_t *sums) {
    int32_t sum[LANES] = {0};
    for (size_t k = 0; k < pairs; ++k) {
        for (size_t lane = 0; lane < LANES; ++lane) {
            const int8_t *const weight = w + 16u * k + 4u * (lane / 2u) + lane % 2u;
            sum[lane] += weight[0] * x[2u * k] + weight[2] * x[2u * k + 1u];
        }
    }
    memcpy(sums, sum, sizeof sum);
}
#endif

/* As multiply_float, with inputs int16 (in->x, strides in int16) worth scales[r] each. */
static void multiply_int8(const kws_layer *layer, const float *base, const inputs *in, const float *scales, float *y) {
    const size_t pairs = (layer->length + 1u) / 2u, size = pairs * 2u * LANES;
    for (size_t block = 0; block < layer->blocks; ++block) {
        const int8_t *const w = (const int8_t *)layer->weights + block * layer->rows * size;
        for (size_t at = 0; at < in->positions; ++at) {
            float total[LANES] = {0};
            for (size_t r = 0; r < layer->rows; ++r) {
                int32_t sums[LANES];
                sum_pairs(w + r * size, (const int16_t *)in->x + r * in->row_stride + at * in->step, pairs, sums);
                for (size_t lane = 0; lane < LANES; ++lane) {
                    total[lane] += (float)sums[lane] * scales[r];
                }
            }
            for (size_t lane = 0; lane < LANES; ++lane) {
                const size_t o = block * LANES + lane;
                y[at * layer->blocks * LANES + o] = base[o] + total[lane] * layer->scale[o];
            }
        }
    }
}

/* float [n] -> int16 [n] within +-limit and the value of 1: the largest magnitude becomes limit. */
static float quantise(const float *x, size_t n, int32_t limit, int16_t *quantised) {
    uint32_t peak = 0;
    for (size_t i = 0; i < n; ++i) {
        const uint32_t magnitude = to_bits(x[i]) & 0x7FFFFFFFu; /* grows with |x| */
        peak = magnitude > peak ? magnitude : peak;
    }
    const float largest = from_bits(peak) < 1e-20f ? 1e-20f : from_bits(peak);
    const float factor = (float)limit / largest;
    for (size_t i = 0; i < n; ++i) {
        const int32_t rounded = (int32_t)(to_bits(x[i] * factor + ROUNDER) - ROUNDER_BITS);
        const int32_t low = rounded < -limit ? -limit : rounded;
        quantised[i] = (int16_t)(low > limit ? limit : low);
    }
    return largest / (float)limit;
}

/* A dense layer: y[8 * blocks] = base + weights * x[length]. room: int16 [length + 1], used for int8. */
static void dense(const kws_layer *layer, const float *base, const float *x, int16_t *room, float *y) {
    inputs in = {x, 0, 0, 1};
    if (layer->scale == NULL) {
        multiply_float(layer, base, &in, y);
    } else {
        const float scale = quantise(x, layer->length, layer->limit, room);
        room[layer->length] = 0;
        in.x = (const float *)(const void *)room;
        multiply_int8(layer, base, &in, &scale, y);
    }
}

/* ---- Front end ---------------------------------------------------------------------------------------------------- */

/* Numbers that a later pass handles at once: its strides are multiples of four. */
#if defined(WIDTH)
typedef float group __attribute__((vector_size(4 * sizeof(float))));
#define GROUP 4u
#else
typedef float group;
#define GROUP 1u
#endif

static inline group get(const float *from) {
    group value;
    memcpy(&value, from, sizeof value);
    return value;
}

static inline void put(float *to, group value) {
    memcpy(to, &value, sizeof value);
}

/* A DFT of four points, of radix 4: RE, IM at distances ONE, as numbers of a TYPE -> z0 to z3, parts _re and _im. */
#define RADIX4(TYPE, GET, RE, IM, ONE)                                                                                 \
    const TYPE x0_re = GET((RE)), x1_re = GET((RE) + (ONE)), x2_re = GET((RE) + 2u * (ONE));                           \
    const TYPE x0_im = GET((IM)), x1_im = GET((IM) + (ONE)), x2_im = GET((IM) + 2u * (ONE));                           \
    const TYPE x3_re = GET((RE) + 3u * (ONE)), x3_im = GET((IM) + 3u * (ONE));                                         \
    const TYPE a_re = x0_re + x2_re, a_im = x0_im + x2_im, b_re = x0_re - x2_re, b_im = x0_im - x2_im;                 \
    const TYPE c_re = x1_re + x3_re, c_im = x1_im + x3_im, d_re = x3_im - x1_im, d_im = x1_re - x3_re;                 \
    const TYPE z0_re = a_re + c_re, z0_im = a_im + c_im, z1_re = b_re - d_re, z1_im = b_im - d_im;                     \
    const TYPE z2_re = a_re - c_re, z2_im = a_im - c_im, z3_re = b_re + d_re, z3_im = b_im + d_im

#define VALUE_OF(POINTER) (*(POINTER))

/* The first pass over n points: neighbours are butterflies of neighbouring angles. w: cosines and sines of one, two
 * and three turns. */
static void first_pass(const float *restrict from, float *restrict to, size_t n, const float *restrict w) {
    const size_t quarter = n / 4u;
    const float *const im = from + n;
    float *const to_im = to + n;
    for (size_t p = 0; p < quarter; ++p) {
        RADIX4(float, VALUE_OF, from + p, im + p, quarter);
        const float c1 = w[p], s1 = w[quarter + p], c2 = w[2u * quarter + p], s2 = w[3u * quarter + p];
        const float c3 = w[4u * quarter + p], s3 = w[5u * quarter + p];
        to[4u * p] = z0_re;
        to_im[4u * p] = z0_im;
        to[4u * p + 1u] = z1_re * c1 + z1_im * s1;
        to_im[4u * p + 1u] = z1_im * c1 - z1_re * s1;
        to[4u * p + 2u] = z2_re * c2 + z2_im * s2;
        to_im[4u * p + 2u] = z2_im * c2 - z2_re * s2;
        to[4u * p + 3u] = z3_re * c3 + z3_im * s3;
        to_im[4u * p + 3u] = z3_im * c3 - z3_re * s3;
    }
}

/* A later pass: neighbours are `stride` butterflies of one angle. */
static void middle_pass(const float *restrict from, float *restrict to, size_t n, size_t quarter, size_t stride,
                        const float *restrict w) {
    for (size_t p = 0; p < quarter; ++p) {
        const float c1 = w[p], s1 = w[quarter + p], c2 = w[2u * quarter + p], s2 = w[3u * quarter + p];
        const float c3 = w[4u * quarter + p], s3 = w[5u * quarter + p];
        for (size_t q = 0; q < stride; q += GROUP) {
            const float *const re = from + stride * p + q, *const im = re + n;
            float *const to_re = to + 4u * stride * p + q, *const to_im = to_re + n;
            RADIX4(group, get, re, im, stride * quarter);
            put(to_re, z0_re);
            put(to_im, z0_im);
            put(to_re + stride, z1_re * c1 + z1_im * s1);
            put(to_im + stride, z1_im * c1 - z1_re * s1);
            put(to_re + 2u * stride, z2_re * c2 + z2_im * s2);
            put(to_im + 2u * stride, z2_im * c2 - z2_re * s2);
            put(to_re + 3u * stride, z3_re * c3 + z3_im * s3);
            put(to_im + 3u * stride, z3_im * c3 - z3_re * s3);
        }
    }
}

/* The last pass of radix 4, all of whose angles are 0. */
static void last_pass(const float *restrict from, float *restrict to, size_t n) {
    const size_t stride = n / 4u;
    for (size_t q = 0; q < stride; q += GROUP) {
        float *const re = to + q, *const im = re + n;
        RADIX4(group, get, from + q, from + n + q, stride);
        put(re, z0_re);
        put(im, z0_im);
        put(re + stride, z1_re);
        put(im + stride, z1_im);
        put(re + 2u * stride, z2_re);
        put(im + 2u * stride, z2_im);
        put(re + 3u * stride, z3_re);
        put(im + 3u * stride, z3_im);
    }
}

static void last_pass_of_two(const float *restrict from, float *restrict to, size_t n) {
    const size_t stride = n / 2u;
    for (size_t q = 0; q < stride; ++q) {
        to[q] = from[q] + from[q + stride];
        to[q + stride] = from[q] - from[q + stride];
        to[n + q] = from[n + q] + from[n + q + stride];
        to[n + q + stride] = from[n + q] - from[n + q + stride];
    }
}

/* Complex DFT of n = 2^k >= 8 points. z: real parts [n], imaginary parts [n]; room: as much again. Stockham's
 * algorithm, radix 4, and one pass of radix 2 for odd k. Returns where the result lies. */
static float *fft(const float *twiddles, float *z, float *room, size_t n) {
    float *from = z, *to = room;
    size_t points = n;
    while (points >= 4u) {
        const size_t quarter = points / 4u;
        if (points == n) {
            first_pass(from, to, n, twiddles);
        } else if (points > 4u) {
            middle_pass(from, to, n, quarter, n / points, twiddles);
        } else {
            last_pass(from, to, n);
        }
        twiddles += 6u * quarter;
        points = quarter;
        float *const swap = from;
        from = to;
        to = swap;
    }
    if (points == 2u) {
        last_pass_of_two(from, to, n);
        from = to;
    }
    return from;
}

/* How many numbers the turns of such a DFT are: cosines and sines of p, 2p, 3p turns in every pass but the last. */
static size_t fft_twiddles(size_t n) {
    size_t count = 0;
    for (size_t points = n; points > 4u; points /= 4u) {
        count += 6u * (points / 4u);
    }
    return count;
}

/* |2 X[k]|^2 of the real signal whose even and odd samples were the real and imaginary parts before the DFT; (re, im)
 * is its value at k, (mirror_re, mirror_im) at n - k; turn: k / (2 n) of a full turn. */
static inline float taken_apart(float re, float im, float mirror_re, float mirror_im, float cosine, float sine) {
    const float even_re = re + mirror_re, even_im = im - mirror_im;
    const float odd_re = im + mirror_im, odd_im = mirror_re - re;
    const float a = even_re + (odd_re * cosine + odd_im * sine);
    const float b = even_im + (odd_im * cosine - odd_re * sine);
    return a * a + b * b;
}

static void power_spectrum(const float *restrict z, size_t n, const float *restrict turns, size_t n_bins,
                           float *restrict power) {
    const float *const cosine = turns, *const sine = turns + n_bins;
    const size_t end = n_bins < n ? n_bins : n;
    power[0] = 0.25f * taken_apart(z[0], z[n], z[0], z[n], cosine[0], sine[0]);
    for (size_t k = 1; k < end; ++k) {
        power[k] = 0.25f * taken_apart(z[k], z[n + k], z[n - k], z[2u * n - k], cosine[k], sine[k]);
    }
    if (n_bins > n) {
        power[n] = 0.25f * taken_apart(z[0], z[n], z[0], z[n], cosine[n], sine[n]);
    }
}

/* The audio's last window -> normalised features [n_features] in the scratch. A real DFT of n_fft points is a complex
 * one of half as many, of even samples + i odd samples, taken apart. */
static float *features_of_hop(const kws_stream *stream) {
    const kws_model *const model = stream->model;
    const size_t half = model->n_fft / 2u, win_length = model->win_length;
    float *const z = stream->scratch, *const room = z + 2u * half;
    memset(z, 0, 2u * half * sizeof *z);
    for (size_t i = 0; i < win_length / 2u; ++i) {
        z[i] = stream->audio[2u * i] * model->window[2u * i];
        z[half + i] = stream->audio[2u * i + 1u] * model->window[2u * i + 1u];
    }
    if (win_length % 2u == 1u) {
        z[win_length / 2u] = stream->audio[win_length - 1u] * model->window[win_length - 1u];
    }
    const float *const spectrum = fft(model->twiddles, z, room, half);
    float *const power = spectrum == z ? room : z;
    power_spectrum(spectrum, half, model->twiddles + fft_twiddles(half), model->n_bins, power);
    float *features = power;
    if (model->n_mels > 0u) {
        const float *weight = model->mel_weights;
        features = power + half + LANES; /* n_mels <= n_bins <= half + 1 */
        for (size_t m = 0; m < model->n_mels; ++m) {
            const size_t first = model->mel_ranges[m] & 0xFFFFu, count = model->mel_ranges[m] >> 16;
            float sum = 0.0f;
            for (size_t i = 0; i < count; ++i) {
                sum += weight[i] * power[first + i];
            }
            features[m] = sum;
            weight += count;
        }
    }
    const size_t n = model->n_mels > 0u ? model->n_mels : model->n_bins;
    for (size_t i = 0; i < n; ++i) {
        features[i] = logarithm(features[i] + model->log_offset);
    }
    if (stream->watch != NULL) {
        stream->watch(stream->watch_user, features);
    }
    if (model->n_mfcc > 0u) {
        for (size_t i = 0; i < model->n_mfcc; ++i) {
            float sum = 0.0f;
            for (size_t m = 0; m < model->n_mels; ++m) {
                sum += model->dct[i * model->n_mels + m] * features[m];
            }
            power[i] = sum;
        }
        features = power;
    }
    for (size_t i = 0; i < model->n_features; ++i) {
        features[i] = (features[i] - model->mean[i]) * model->inverse_std[i];
    }
    return features;
}

/* ---- Network ------------------------------------------------------------------------------------------------------ */

static size_t max_size(size_t a, size_t b) {
    return a > b ? a : b;
}

/* Numbers from one row of a convolution's input to the next: [padding + bands + padding][channels], one more that an
 * odd length may read, even. */
static size_t row_stride(const kws_conv *conv) {
    return ((conv->in_bands + 2u * (size_t)conv->shape->padding) * conv->in_channels + 2u) / 2u * 2u;
}

/* Numbers of memory that a convolution's rows take; behind them lie the rows' scales, then what is being pooled. */
static size_t rows_size(const kws_conv *conv) {
    return conv->shape->frames * row_stride(conv) / (conv->layer.scale != NULL ? 2u : 1u);
}

static size_t pooled_size(const kws_conv *conv) {
    return conv->shape->pool_frames > 1u ? (size_t)(conv->made_bands / conv->shape->pool_bands) * conv->shape->channels
                                         : 0u;
}

/* Keep x [bands][channels] as row `row` of the input of convolution i. */
static void put_row(const kws_stream *stream, size_t i, size_t row, const float *x) {
    const kws_conv *const conv = &stream->model->conv[i];
    const size_t n = (size_t)conv->in_bands * conv->in_channels;
    const size_t at = row * row_stride(conv) + conv->shape->padding * (size_t)conv->in_channels;
    if (conv->layer.scale != NULL) {
        int16_t *const rows = (int16_t *)(void *)stream->rows[i];
        stream->rows[i][rows_size(conv) + row] = quantise(x, n, conv->layer.limit, rows + at);
    } else {
        memcpy(stream->rows[i] + at, x, n * sizeof *x);
    }
}

/* Convolution i over its rows, which move on -> [made_bands][channels] in y, which has room for whole lanes. */
static void convolve(const kws_stream *stream, size_t i, float *y) {
    const kws_conv *const conv = &stream->model->conv[i];
    const kws_conv_shape *const shape = conv->shape;
    const kws_layer *const layer = &conv->layer;
    const inputs in = {stream->rows[i], row_stride(conv), shape->band_stride * (size_t)conv->in_channels,
                       conv->made_bands};
    const size_t used = shape->frame_stride, left = shape->frames - used;
    const size_t row_size = in.row_stride * (layer->scale != NULL ? sizeof(int16_t) : sizeof(float));
    if (layer->scale != NULL) {
        float *const scales = stream->rows[i] + rows_size(conv);
        multiply_int8(layer, layer->bias, &in, scales, y);
        memmove(scales, scales + used, left * sizeof *scales);
    } else {
        multiply_float(layer, layer->bias, &in, y);
    }
    memmove(stream->rows[i], (char *)stream->rows[i] + used * row_size, left * row_size);
    const size_t channels = shape->channels, lanes = layer->blocks * LANES;
    for (size_t band = 1; lanes != channels && band < conv->made_bands; ++band) {
        memmove(y + band * channels, y + band * lanes, channels * sizeof *y);
    }
    const size_t n = conv->made_bands * channels;
    const float slope = shape->slope, least = shape->least;
    for (size_t k = 0; k < n; ++k) {
        const float sloped = slope * y[k];
        const float active = y[k] > 0.0f ? y[k] : sloped;
        y[k] = active > least ? active : least;
    }
}

static void keep_larger(float *kept, const float *x, size_t n) {
    for (size_t i = 0; i < n; ++i) {
        kept[i] = x[i] > kept[i] ? x[i] : kept[i];
    }
}

/* y [made_bands][channels] of convolution i, pooled -> [out bands][channels], or null until its frames are whole. */
static const float *pool(kws_stream *stream, size_t i, float *y) {
    const kws_conv *const conv = &stream->model->conv[i];
    const kws_conv_shape *const shape = conv->shape;
    const size_t channels = shape->channels, n = conv->made_bands / shape->pool_bands * channels;
    for (size_t at = 0; shape->pool_bands > 1u && at < n; at += channels) {
        memmove(y + at, y + at * shape->pool_bands, channels * sizeof *y);
        for (size_t band = 1; band < shape->pool_bands; ++band) {
            keep_larger(y + at, y + at * shape->pool_bands + band * channels, channels);
        }
    }
    if (shape->pool_frames == 1u) {
        return y;
    }
    float *const kept = stream->rows[i] + rows_size(conv) + (conv->layer.scale != NULL ? shape->frames : 0u);
    if (stream->pooled[i] == 0u) {
        memcpy(kept, y, n * sizeof *y);
    } else {
        keep_larger(kept, y, n);
    }
    stream->pooled[i] = (uint8_t)((stream->pooled[i] + 1u) % shape->pool_frames);
    return stream->pooled[i] == 0u ? kept : NULL;
}

/* The next features through the convolutions -> [out_bands][out_channels], or null until one has frames enough. */
static const float *convolve_all(kws_stream *stream, const float *features) {
    const kws_model *const model = stream->model;
    const float *x = features;
    for (size_t i = 0; i < model->n_convs && x != NULL; ++i) {
        const kws_conv_shape *const shape = model->conv[i].shape;
        put_row(stream, i, shape->frames - shape->frame_stride + stream->waiting[i], x);
        stream->waiting[i] = (uint8_t)((stream->waiting[i] + 1u) % shape->frame_stride);
        x = NULL;
        if (stream->waiting[i] == 0u) {
            convolve(stream, i, stream->scratch);
            x = pool(stream, i, stream->scratch);
        }
    }
    return x;
}

/* An LSTM's cell and hidden [n] move on; gates: input, forget, cell, output, [n] each. */
static void step_lstm(const float *restrict gates, float *restrict c, float *restrict h, size_t n) {
    for (size_t j = 0; j < n; ++j) {
        const float fresh = sigmoid(gates[j]) * hyperbolic_tangent(gates[2u * n + j]);
        c[j] = sigmoid(gates[n + j]) * c[j] + fresh;
        h[j] = sigmoid(gates[3u * n + j]) * hyperbolic_tangent(c[j]);
    }
}

/* One step of recurrent layer i: hidden [hidden_size] moves on. gates: room for its two products. */
static void recur(const kws_stream *stream, size_t i, const float *x, float *gates, int16_t *room) {
    const kws_model *const model = stream->model;
    const size_t n = model->hidden_size;
    const kws_layer *const input = &model->input[i], *const recurrent = &model->recurrent[i];
    float *const h = stream->hidden + i * n;
    dense(input, input->bias, x, room, gates);
    if (model->cell == CELL_GRU) { /* reset, update, new */
        float *const own = gates + input->blocks * LANES;
        dense(recurrent, recurrent->bias, h, room, own);
        for (size_t j = 0; j < n; ++j) {
            const float reset = sigmoid(gates[j] + own[j]), update = sigmoid(gates[n + j] + own[n + j]);
            const float fresh = hyperbolic_tangent(gates[2u * n + j] + reset * own[2u * n + j]);
            h[j] = fresh + update * (h[j] - fresh);
        }
        return;
    }
    dense(recurrent, gates, h, room, gates);
    if (model->cell == CELL_LSTM) {
        step_lstm(gates, stream->memory_cell + i * n, h, n);
    } else {
        for (size_t j = 0; j < n; ++j) {
            h[j] = hyperbolic_tangent(gates[j]);
        }
    }
}

/* Where the parts of the scratch begin while the network runs: numbers from its start. */
typedef struct {
    size_t projected, gates, logits, room, end;
} network_scratch;

static size_t outputs(const kws_layer *layer) {
    return layer->blocks * LANES;
}

static network_scratch place_network(const kws_model *model) {
    network_scratch at;
    size_t longest = max_size(model->hidden_size, model->projection_size), widest = 0;
    for (size_t i = 0; i < model->n_convs; ++i) {
        widest = max_size(widest, model->conv[i].made_bands * outputs(&model->conv[i].layer));
    }
    longest = max_size(longest, (size_t)model->out_bands * model->out_channels);
    at.projected = widest;
    at.gates = at.projected + (model->projection_size > 0u ? outputs(&model->projection) : 0u);
    at.logits = at.gates + outputs(&model->input[0]) * (model->cell == CELL_GRU ? 2u : 1u);
    at.room = at.logits + outputs(&model->head);
    at.end = at.room + (model->is_int8 != 0u ? longest / 2u + 1u : 0u);
    return at;
}

/* One frame of logits from what the convolutions gave; where it lies. */
static const float *logits_of_frame(const kws_stream *stream, const float *convolved) {
    const kws_model *const model = stream->model;
    const network_scratch at = place_network(model);
    float *const scratch = stream->scratch;
    int16_t *const room = (int16_t *)(void *)(scratch + at.room);
    const float *x = convolved;
    if (model->n_layers == 0u) {
        return x;
    }
    if (model->projection_size > 0u) {
        dense(&model->projection, model->projection.bias, x, room, scratch + at.projected);
        x = scratch + at.projected;
    }
    for (size_t i = 0; i < model->n_layers; ++i) {
        recur(stream, i, x, scratch + at.gates, room);
        x = stream->hidden + i * model->hidden_size;
    }
    dense(&model->head, model->head.bias, x, room, scratch + at.logits);
    return scratch + at.logits;
}

/* ---- The block of weights ----------------------------------------------------------------------------------------- */

typedef struct {
    const uint32_t *next;
    uint64_t left; /* words */
    int error;
} cursor;

/* The next n words; null, and an error kept, where fewer are left. */
static const void *take(cursor *at, uint64_t n) {
    const uint32_t *const found = at->next;
    if (at->error != KWS_OK || n > at->left) {
        at->error = at->error != KWS_OK ? at->error : KWS_ERROR_SIZE;
        return NULL;
    }
    at->next += (size_t)n;
    at->left -= n;
    return found;
}

/* The next n floats, all finite. */
static const float *take_floats(cursor *at, uint64_t n) {
    const uint32_t *const bits = take(at, n);
    uint32_t infinite = 0;
    for (size_t i = 0; bits != NULL && i < (size_t)n; ++i) {
        infinite |= (uint32_t)((bits[i] & 0x7F800000u) == 0x7F800000u);
    }
    if (infinite != 0u) {
        at->error = KWS_ERROR_VALUE;
    }
    return (const float *)(const void *)bits;
}

static void take_layer(cursor *at, uint32_t is_int8, kws_layer *layer, uint32_t rows, uint32_t length,
                       uint32_t n_outputs) {
    layer->rows = rows;
    layer->length = length;
    layer->blocks = (n_outputs + LANES - 1u) / LANES;
    layer->bias = take_floats(at, (uint64_t)layer->blocks * LANES);
    const uint64_t block_rows = (uint64_t)layer->blocks * rows;
    if (is_int8 != 0u) {
        const uint32_t pairs = (length + 1u) / 2u;
        const uint32_t limit = 0x7FFFFFFFu / (256u * pairs); /* |sum| <= 2 pairs * 128 * limit */
        layer->limit = (int32_t)(limit < 32767u ? limit : 32767u);
        layer->scale = take_floats(at, (uint64_t)layer->blocks * LANES);
        layer->weights = take(at, block_rows * pairs * (2u * LANES / 4u));
    } else {
        layer->weights = take_floats(at, block_rows * length * LANES);
    }
}

static int is_within(uint32_t value, uint32_t low, uint32_t high) {
    return value >= low && value <= high;
}

/* The header's sizes into the model. Bounds keep every product of two of them far below 2^32. */
static int read_header(kws_model *model, const uint32_t *word) {
    model->is_int8 = word[5];
    model->sample_rate = word[6];
    model->win_length = word[7];
    model->hop_length = word[8];
    model->n_fft = word[9];
    model->n_bins = word[10];
    model->n_mels = word[11];
    model->n_mfcc = word[12];
    model->log_offset = from_bits(word[13]);
    model->n_convs = word[14];
    model->projection_size = word[15];
    model->cell = word[16];
    model->hidden_size = word[17];
    model->n_layers = word[18];
    model->n_labels = word[19];
    model->block_frames = word[20];
    if (model->is_int8 > 1u || !is_within(model->sample_rate, 1000u, 768000u) ||
        !is_within(model->n_fft, 16u, 8192u) || (model->n_fft & (model->n_fft - 1u)) != 0u ||
        !is_within(model->win_length, 1u, model->n_fft) || !is_within(model->hop_length, 1u, model->win_length) ||
        !is_within(model->n_bins, 1u, model->n_fft / 2u + 1u) || model->n_mels > model->n_bins ||
        model->n_mfcc > model->n_mels || !(model->log_offset >= 1e-30f && model->log_offset <= 1e30f)) {
        return KWS_ERROR_VALUE;
    }
    if (model->n_convs > KWS_MAX_CONVS || model->projection_size > 8192u ||
        (model->cell != CELL_LSTM && model->cell != CELL_GRU && model->cell != CELL_RNN) ||
        !is_within(model->hidden_size, 1u, 4096u) || model->n_layers > KWS_MAX_LAYERS ||
        !is_within(model->n_labels, 1u, 4096u) || !is_within(model->block_frames, 1u, 4096u)) {
        return KWS_ERROR_VALUE;
    }
    model->n_features = model->n_mfcc > 0u ? model->n_mfcc : model->n_mels > 0u ? model->n_mels : model->n_bins;
    return KWS_OK;
}

static int is_finite(float x) {
    return (to_bits(x) & 0x7F800000u) != 0x7F800000u;
}

/* The shapes of the convolutions, and what follows from them. */
static void take_shapes(cursor *at, kws_model *model) {
    uint32_t bands = model->n_features, channels = 1u, hops = 1u;
    for (size_t i = 0; i < model->n_convs && at->error == KWS_OK; ++i) {
        const kws_conv_shape *const shape = take(at, sizeof *shape / 4u);
        if (shape == NULL) {
            return;
        }
        if (!is_within(shape->channels, 1u, 4096u) || !is_within(shape->frames, 1u, 100u) ||
            !is_within(shape->bands, 1u, 15u) || shape->padding >= shape->bands ||
            !is_within(shape->band_stride, 1u, 15u) || !is_within(shape->frame_stride, 1u, shape->frames) ||
            !is_within(shape->pool_frames, 1u, 15u) || !is_within(shape->pool_bands, 1u, 15u) ||
            !is_finite(shape->slope) || !is_finite(shape->least) || bands + 2u * shape->padding < shape->bands) {
            at->error = KWS_ERROR_VALUE;
            return;
        }
        kws_conv *const conv = &model->conv[i];
        conv->shape = shape;
        conv->in_bands = bands;
        conv->in_channels = channels;
        conv->made_bands = (bands + 2u * shape->padding - shape->bands) / shape->band_stride + 1u;
        bands = conv->made_bands / shape->pool_bands;
        channels = shape->channels;
        hops *= shape->frame_stride * shape->pool_frames;
        const uint64_t most = (uint64_t)shape->frames * (conv->in_bands + 14u) * conv->in_channels;
        const uint64_t made = (uint64_t)conv->made_bands * channels;
        if (bands == 0u || hops > 4096u || most > 1u << 22 || made > 1u << 22) {
            at->error = KWS_ERROR_VALUE;
        }
    }
    model->out_bands = bands;
    model->out_channels = channels;
    model->frame_length = model->hop_length * hops;
    if (model->n_layers == 0u && (model->n_convs == 0u || model->projection_size > 0u || bands != 1u ||
                                  channels != model->n_labels)) {
        at->error = at->error != KWS_OK ? at->error : KWS_ERROR_VALUE;
    }
}

static void take_tables(cursor *at, kws_model *model) {
    uint64_t count = 0;
    model->window = take_floats(at, model->win_length);
    model->twiddles = take_floats(at, fft_twiddles(model->n_fft / 2u) + 2u * (uint64_t)model->n_bins);
    model->mel_ranges = take(at, model->n_mels);
    for (size_t m = 0; m < model->n_mels && model->mel_ranges != NULL; ++m) {
        const uint32_t first = model->mel_ranges[m] & 0xFFFFu, bins = model->mel_ranges[m] >> 16;
        if (first + bins > model->n_bins) {
            at->error = KWS_ERROR_VALUE;
        }
        count += bins;
    }
    model->mel_weights = take_floats(at, count);
    model->dct = take_floats(at, (uint64_t)model->n_mels * model->n_mfcc);
    model->mean = take_floats(at, model->n_features);
    model->inverse_std = take_floats(at, model->n_features);
}

int kws_model_init(kws_model *model, const void *block, size_t block_size) {
    const uint32_t *const word = block;
    if (model == NULL || block == NULL) {
        return KWS_ERROR_NULL;
    }
    if ((uintptr_t)block % 4u != 0u) {
        return KWS_ERROR_ALIGNMENT;
    }
    if (block_size < HEADER_WORDS * 4u || word[0] != MAGIC) {
        return KWS_ERROR_MAGIC;
    }
    if (word[1] != KWS_BLOCK_VERSION) {
        return KWS_ERROR_VERSION;
    }
    if (word[2] != block_size || block_size % 4u != 0u) {
        return KWS_ERROR_SIZE;
    }
    uint32_t sum = 0, sum_of_sums = 0; /* Fletcher's, of words, modulo 2^32 */
    for (size_t i = 5; i < block_size / 4u; ++i) {
        sum += word[i];
        sum_of_sums += sum;
    }
    if (sum != word[3] || sum_of_sums != word[4]) {
        return KWS_ERROR_CHECKSUM;
    }
    memset(model, 0, sizeof *model);
    const int error = read_header(model, word);
    if (error != KWS_OK) {
        return error;
    }
    cursor at = {word + HEADER_WORDS, block_size / 4u - HEADER_WORDS, KWS_OK};
    take_shapes(&at, model);
    if (at.error != KWS_OK) {
        memset(model, 0, sizeof *model);
        return at.error;
    }
    take_tables(&at, model);
    for (size_t i = 0; i < model->n_convs; ++i) {
        kws_conv *const conv = &model->conv[i];
        take_layer(&at, i > 0u ? model->is_int8 : 0u, &conv->layer, conv->shape->frames,
                   conv->shape->bands * conv->in_channels, conv->shape->channels);
    }
    uint32_t size = model->out_bands * model->out_channels;
    if (model->projection_size > 0u) {
        take_layer(&at, model->is_int8, &model->projection, 1u, size, model->projection_size);
        size = model->projection_size;
    }
    for (size_t i = 0; i < model->n_layers; ++i) {
        take_layer(&at, model->is_int8, &model->input[i], 1u, size, model->cell * model->hidden_size);
        take_layer(&at, model->is_int8, &model->recurrent[i], 1u, model->hidden_size, model->cell * model->hidden_size);
        size = model->hidden_size;
    }
    if (model->n_layers > 0u) {
        take_layer(&at, model->is_int8, &model->head, 1u, size, model->n_labels);
    }
    if (at.error == KWS_OK && at.left != 0u) {
        at.error = KWS_ERROR_SIZE;
    }
    if (at.error != KWS_OK) {
        memset(model, 0, sizeof *model);
    }
    return at.error;
}

/* ---- Streams ------------------------------------------------------------------------------------------------------ */

/* Numbers of memory, and, where stream is not null, its pointers into `memory`. */
static size_t place(const kws_model *model, kws_stream *stream, float *memory) {
    size_t at[5u + KWS_MAX_CONVS], end = 0;
    const size_t cells = (size_t)model->n_layers * model->hidden_size;
    const size_t fft_size = 2u * model->n_fft + 2u * LANES;
    const size_t sizes[5] = {model->win_length, model->n_convs > 0u ? 0u : model->n_features, cells,
                             model->cell == CELL_LSTM ? cells : 0u, max_size(fft_size, place_network(model).end)};
    for (size_t i = 0; i < 5u; ++i) {
        at[i] = end;
        end += sizes[i];
    }
    for (size_t i = 0; i < model->n_convs; ++i) {
        const kws_conv *const conv = &model->conv[i];
        at[5u + i] = end;
        end += rows_size(conv) + (conv->layer.scale != NULL ? conv->shape->frames : 0u) + pooled_size(conv);
    }
    if (stream != NULL) {
        stream->audio = memory + at[0];
        stream->features = memory + at[1];
        stream->hidden = memory + at[2];
        stream->memory_cell = memory + at[3];
        stream->scratch = memory + at[4];
        for (size_t i = 0; i < model->n_convs; ++i) {
            stream->rows[i] = memory + at[5u + i];
        }
    }
    return end;
}

size_t kws_memory_size(const kws_model *model) {
    return model == NULL ? 0u : place(model, NULL, NULL) * sizeof(float);
}

int kws_init(kws_stream *stream, const kws_model *model, void *memory, size_t memory_size) {
    if (stream == NULL || model == NULL || memory == NULL || model->window == NULL) {
        return KWS_ERROR_NULL;
    }
    if ((uintptr_t)memory % 4u != 0u) {
        return KWS_ERROR_ALIGNMENT;
    }
    if (memory_size < kws_memory_size(model)) {
        return KWS_ERROR_MEMORY;
    }
    memset(stream, 0, sizeof *stream);
    stream->model = model;
    (void)place(model, stream, memory);
    return kws_reset(stream);
}

int kws_reset(kws_stream *stream) {
    if (stream == NULL || stream->model == NULL) {
        return KWS_ERROR_NULL;
    }
    memset(stream->audio, 0, kws_memory_size(stream->model)); /* audio comes first */
    memset(stream->waiting, 0, sizeof stream->waiting);
    memset(stream->pooled, 0, sizeof stream->pooled);
    stream->filled = stream->phase = stream->in_block = 0u;
    return KWS_OK;
}

int kws_watch(kws_stream *stream, kws_frame_callback callback, void *user) {
    if (stream == NULL || stream->model == NULL) {
        return KWS_ERROR_NULL;
    }
    stream->watch = callback;
    stream->watch_user = user;
    return KWS_OK;
}

/* A hop is whole: features, and every frame_length samples a frame of logits. */
static void finish_hop(kws_stream *stream, kws_frame_callback callback, void *user) {
    const kws_model *const model = stream->model;
    const size_t context = model->win_length - model->hop_length;
    const float *x = features_of_hop(stream);
    memmove(stream->audio, stream->audio + model->hop_length, context * sizeof *stream->audio);
    stream->filled = 0u;
    ++stream->phase;
    if (model->n_convs > 0u) {
        x = convolve_all(stream, x);
    } else {
        memcpy(stream->features, x, model->n_features * sizeof *x);
        x = stream->features;
    }
    if (x != NULL) {
        stream->phase = 0u;
        stream->in_block = (stream->in_block + 1u) % model->block_frames;
        const float *const logits = logits_of_frame(stream, x);
        if (callback != NULL) {
            callback(user, logits);
        }
    }
}

/* n samples: of one of the two arrays, or zeros where both are null. */
static void advance(kws_stream *stream, const int16_t *integers, const float *floats, size_t n,
                    kws_frame_callback callback, void *user) {
    const size_t hop_length = stream->model->hop_length;
    for (size_t start = 0; start < n;) {
        const size_t left = n - start, room = hop_length - stream->filled, count = left < room ? left : room;
        float *const audio = stream->audio + (stream->model->win_length - hop_length) + stream->filled;
        for (size_t i = 0; i < count; ++i) {
            audio[i] = integers != NULL ? (float)integers[start + i] * (1.0f / 32768.0f)
                       : floats != NULL ? floats[start + i]
                                        : 0.0f;
        }
        start += count;
        stream->filled += (uint32_t)count;
        if (stream->filled == hop_length) {
            finish_hop(stream, callback, user);
        }
    }
}

static int check(const kws_stream *stream, const void *samples, size_t n, size_t sample_size) {
    if (stream == NULL || stream->model == NULL || (samples == NULL && n > 0u)) {
        return KWS_ERROR_NULL;
    }
    return n > SIZE_MAX / 2u / sample_size ? KWS_ERROR_SIZE : KWS_OK;
}

int kws_feed_int16(kws_stream *stream, const int16_t *samples, size_t n, kws_frame_callback callback, void *user) {
    const int error = check(stream, samples, n, sizeof *samples);
    if (error == KWS_OK) {
        advance(stream, samples, NULL, n, callback, user);
    }
    return error;
}

int kws_feed_float(kws_stream *stream, const float *samples, size_t n, kws_frame_callback callback, void *user) {
    const int error = check(stream, samples, n, sizeof *samples);
    if (error != KWS_OK) {
        return error;
    }
    for (size_t i = 0; i < n; ++i) {
        if (!(samples[i] >= -10.0f && samples[i] <= 10.0f)) {
            return KWS_ERROR_SAMPLE;
        }
    }
    advance(stream, NULL, samples, n, callback, user);
    return KWS_OK;
}

int kws_flush(kws_stream *stream, kws_frame_callback callback, void *user) {
    if (stream == NULL || stream->model == NULL) {
        return KWS_ERROR_NULL;
    }
    const kws_model *const model = stream->model;
    const size_t block_size = (size_t)model->block_frames * model->frame_length;
    const size_t seen = (size_t)stream->in_block * model->frame_length + stream->phase * model->hop_length;
    advance(stream, NULL, NULL, (block_size - (seen + stream->filled)) % block_size, callback, user);
    return kws_reset(stream);
}
