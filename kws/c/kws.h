/* Keyword spotting in C99: samples in, logits out, all state in memory that the caller gives.
 *
 *     kws_model model;                                         the weights, read where they lie (flash)
 *     kws_stream stream;                                       one stream of audio
 *     kws_model_init(&model, block, block_size);
 *     kws_init(&stream, &model, memory, memory_size);          memory: kws_memory_size(&model) bytes
 *     kws_feed_int16(&stream, samples, n, on_frame, user);     any n; on_frame gets the logits of each frame
 *
 * No allocation, no global state, no recursion; every loop is bounded by the block's header. Streams that share a model
 * share nothing else. Numbers are the same, bit for bit, on every machine with IEEE floats and however the samples are
 * cut into calls: compile with -ffp-contract=off and without -ffast-math.
 */
#ifndef KWS_H
#define KWS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define KWS_BLOCK_VERSION 2u
#define KWS_MAX_CONVS 24u
#define KWS_MAX_LAYERS 8u

/* What every function returns. After an error the stream is as it was before the call. */
#define KWS_OK 0
#define KWS_ERROR_NULL (-1)      /* a null pointer where something is needed */
#define KWS_ERROR_ALIGNMENT (-2) /* block or memory does not begin at a multiple of 4 bytes */
#define KWS_ERROR_MAGIC (-3)     /* not a block of weights made by kws */
#define KWS_ERROR_VERSION (-4)   /* a block of another version: export it again with this version of kws */
#define KWS_ERROR_SIZE (-5)      /* block_size is not what the block's header and sizes need; n is impossible */
#define KWS_ERROR_CHECKSUM (-6)  /* the block was damaged */
#define KWS_ERROR_VALUE (-7)     /* a size in the header is out of bounds, or a weight is not finite */
#define KWS_ERROR_MEMORY (-8)    /* memory_size is less than kws_memory_size */
#define KWS_ERROR_SAMPLE (-9)    /* a float sample is NaN or beyond +-10: it was not scaled to [-1, 1] */

/* One product of a matrix with vectors: rows parts of length inputs each, 8 * blocks outputs (the last may be zeros). */
typedef struct kws_layer {
    uint32_t rows, length, blocks;
    int32_t limit;        /* int8: inputs are quantised to +-limit, so that no sum of products overflows */
    const float *bias;    /* [8 * blocks] */
    const float *scale;   /* int8: [8 * blocks], value of a weight of 1; else null */
    const float *weights; /* [blocks][rows][length][8]; int8: bytes, see kws.c */
} kws_layer;

/* A convolution, causal in time: 10 words of the block. It takes `frames` frames of `bands` bands, moves on by the
 * strides, gives max(x > 0 ? x : slope * x, least), and the maximum of pool_frames by pool_bands of those. */
typedef struct kws_conv_shape {
    uint32_t channels, frames, bands, padding, band_stride, frame_stride, pool_frames, pool_bands;
    float slope, least;
} kws_conv_shape;

typedef struct kws_conv {
    const kws_conv_shape *shape;
    uint32_t in_bands, in_channels, made_bands; /* made_bands: before the pooling */
    kws_layer layer;
} kws_conv;

/* A block of weights, checked. Read-only after kws_model_init; it points into the block, which must stay.
 * Where there are no recurrent layers, the last convolution gives the logits. */
typedef struct kws_model {
    uint32_t is_int8, sample_rate, win_length, hop_length, n_fft, n_bins, n_mels, n_mfcc;
    uint32_t n_convs, projection_size, cell, hidden_size, n_layers, n_labels, block_frames;
    uint32_t n_features, frame_length; /* frame_length: samples from one frame of logits to the next */
    uint32_t out_bands, out_channels;  /* what comes out of the last convolution, or features and 1 */
    float log_offset;
    const float *window, *twiddles, *mel_weights, *dct, *mean, *inverse_std;
    const uint32_t *mel_ranges;
    kws_conv conv[KWS_MAX_CONVS];
    kws_layer projection, input[KWS_MAX_LAYERS], recurrent[KWS_MAX_LAYERS], head;
} kws_model;

/* logits: float [n_labels], valid during the call. */
typedef void (*kws_frame_callback)(void *user, const float *logits);

/* One stream of audio: where its memory lies and how far it has come. To be touched by the functions below alone. */
typedef struct kws_stream {
    const kws_model *model;
    float *audio, *features, *hidden, *memory_cell, *scratch;
    float *rows[KWS_MAX_CONVS];
    uint8_t waiting[KWS_MAX_CONVS], pooled[KWS_MAX_CONVS]; /* frames since a convolution, and its pooling, gave one */
    uint32_t filled, phase, in_block;
    kws_frame_callback watch;
    void *watch_user;
} kws_stream;

/* Read and check a block of weights of block_size bytes, aligned to 4. */
int kws_model_init(kws_model *model, const void *block, size_t block_size);

/* Bytes of memory that a stream of this model needs; 0 for a null pointer. */
size_t kws_memory_size(const kws_model *model);

/* A stream at time 0 in the caller's memory, aligned to 4. model, block and memory must outlive it. */
int kws_init(kws_stream *stream, const kws_model *model, void *memory, size_t memory_size);

/* Begin a new stream at time 0. */
int kws_reset(kws_stream *stream);

/* The next n samples at the model's sample rate, any n: int16, or float in [-1, 1]. callback may be null. */
int kws_feed_int16(kws_stream *stream, const int16_t *samples, size_t n, kws_frame_callback callback, void *user);
int kws_feed_float(kws_stream *stream, const float *samples, size_t n, kws_frame_callback callback, void *user);

/* From now on show each hop's spectrum, the natural logarithm of power: float [n_mels], or [n_bins] where there are no
 * mel bands. Null: no more. kws_reset keeps it. */
int kws_watch(kws_stream *stream, kws_frame_callback callback, void *user);

/* End the stream: zeros to the end of its last block of block_frames frames, then kws_reset. */
int kws_flush(kws_stream *stream, kws_frame_callback callback, void *user);

#ifdef __cplusplus
}
#endif

#endif
