/* Arithmetic that gives the same bits everywhere: exp and log as polynomials of our own, since each libm has other last
 * bits. For kws.c and kws_detector.c alone.
 */
#ifndef KWS_MATH_H
#define KWS_MATH_H

#include <float.h>
#include <stdint.h>
#include <string.h>

#if defined(__FAST_MATH__)
#error "compile without -ffast-math: results would differ from machine to machine"
#endif
#if defined(FLT_EVAL_METHOD) && FLT_EVAL_METHOD != 0
#error "float arithmetic must round to float after every operation (on 32-bit x86: -msse2 -mfpmath=sse)"
#endif
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#endif

static inline float from_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint32_t to_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

#define ROUNDER 12582912.0f /* 1.5 * 2^23: added to a float below 2^22, it leaves the nearest integer in the low bits */
#define ROUNDER_BITS 0x4B400000u

/* e^x for x in [-87, 87], others clamped; Cephes' expf: range reduction by ln 2 in two parts, then a polynomial. */
static inline float exponential(float x) {
    const uint32_t sign = to_bits(x) & 0x80000000u, magnitude = to_bits(x) & 0x7FFFFFFFu; /* grows with |x| */
    const float clamped = from_bits(sign | (magnitude < 0x42AE0000u ? magnitude : 0x42AE0000u));
    const float shifted = clamped * 1.44269504088896341f + ROUNDER;
    const float n = shifted - ROUNDER;
    const float r = (clamped - n * 0.693359375f) - n * -2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    return p * from_bits((to_bits(shifted) - ROUNDER_BITS + 127u) << 23);
}

/* ln x for normal x > 0; Cephes' logf: x = 2^n m with m in [sqrt(1/2), sqrt(2)), then a polynomial in m - 1. */
static inline float logarithm(float x) {
    const uint32_t bits = to_bits(x) + (0x3F800000u - 0x3F3504F3u);
    const float n = (float)((int32_t)(bits >> 23) - 127);
    const float m = from_bits((bits & 0x007FFFFFu) + 0x3F3504F3u) - 1.0f;
    const float square = m * m;
    float p = 7.0376836292e-2f;
    p = p * m - 1.1514610310e-1f;
    p = p * m + 1.1676998740e-1f;
    p = p * m - 1.2420140846e-1f;
    p = p * m + 1.4249322787e-1f;
    p = p * m - 1.6668057665e-1f;
    p = p * m + 2.0000714765e-1f;
    p = p * m - 2.4999993993e-1f;
    p = p * m + 3.3333331174e-1f;
    p = p * m * square + n * -2.12194440e-4f - 0.5f * square;
    return (m + p) + n * 0.693359375f;
}

#endif
