# libopus (RFC 6716), as far as transcoding needs it: mono at 8 kHz, both ways. It is optional:
# without it nothing is created, and RELAY_HAS_OPUS says so.

from libc.stdint cimport int16_t, uint8_t

cdef extern from *:
    """
    #ifndef RELAY_OPUS_H
    #define RELAY_OPUS_H
    #include <stdint.h>
    #ifdef RELAY_OPUS
    #include <opus/opus.h>
    #define RELAY_HAS_OPUS 1

    static OpusEncoder *voice_encoder(int fec) {
        int problem = 0;
        OpusEncoder *e = opus_encoder_create(8000, 1, OPUS_APPLICATION_VOIP, &problem);
        if (e == NULL) return NULL;
        opus_encoder_ctl(e, OPUS_SET_BITRATE(32000));
        opus_encoder_ctl(e, OPUS_SET_COMPLEXITY(5));
        opus_encoder_ctl(e, OPUS_SET_SIGNAL(OPUS_SIGNAL_VOICE));
        opus_encoder_ctl(e, OPUS_SET_INBAND_FEC(fec));
        opus_encoder_ctl(e, OPUS_SET_PACKET_LOSS_PERC(fec ? 10 : 0));
        return e;
    }
    static OpusDecoder *voice_decoder(void) {
        int problem = 0;
        return opus_decoder_create(8000, 1, &problem);
    }
    #else
    #define RELAY_HAS_OPUS 0
    typedef struct OpusEncoder OpusEncoder;
    typedef struct OpusDecoder OpusDecoder;
    static OpusEncoder *voice_encoder(int fec) { (void)fec; return NULL; }
    static OpusDecoder *voice_decoder(void) { return NULL; }
    static void opus_encoder_destroy(OpusEncoder *e) { (void)e; }
    static void opus_decoder_destroy(OpusDecoder *d) { (void)d; }
    static int opus_encode(OpusEncoder *e, const int16_t *p, int n, unsigned char *o, int m) {
        (void)e; (void)p; (void)n; (void)o; (void)m; return -1;
    }
    static int opus_decode(
        OpusDecoder *d, const unsigned char *p, int n, int16_t *o, int m, int fec
    ) { (void)d; (void)p; (void)n; (void)o; (void)m; (void)fec; return -1; }
    #endif
    #endif
    """
    ctypedef struct OpusEncoder:
        pass
    ctypedef struct OpusDecoder:
        pass
    int RELAY_HAS_OPUS
    OpusEncoder *voice_encoder(int fec) noexcept nogil
    OpusDecoder *voice_decoder() noexcept nogil
    void opus_encoder_destroy(OpusEncoder *e) noexcept nogil
    void opus_decoder_destroy(OpusDecoder *d) noexcept nogil
    int opus_encode(
        OpusEncoder *e, const int16_t *pcm, int samples, uint8_t *out, int octets
    ) noexcept nogil
    int opus_decode(
        OpusDecoder *d, const uint8_t *data, int octets, int16_t *pcm, int samples, int fec
    ) noexcept nogil
