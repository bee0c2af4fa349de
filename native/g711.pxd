# G.711 companding (ITU-T G.711): linear <-> octet tables, filled once by g711_init().
# Index 0 is the mu-law (PCMU, payload type 0), 1 the A-law (PCMA, 8). Linear is 16 bits.
from libc.stdint cimport int16_t, uint8_t

cdef extern from *:
    """
    #ifndef RELAY_G711
    #define RELAY_G711
    #include <stdint.h>

    static int16_t g711_linear[2][256];
    static int16_t g711_mix[2][256];       /* as linear, A-law's idle octets count as zero */
    static uint8_t g711_octet[2][16384];   /* by (linear + 32768) >> 2 */
    static uint8_t g711_convert[2][256];   /* to law [i] from the other one */
    static const uint8_t g711_silence[2] = {0xff, 0xd5};

    static int16_t g711_expand(int law, uint8_t octet) {
        int a, t, seg;
        if (law == 0) {
            a = (uint8_t)~octet;
            t = ((((a & 0x0f) << 3) + 0x84) << ((a & 0x70) >> 4)) - 0x84;
            return (int16_t)((a & 0x80) ? -t : t);
        }
        a = octet ^ 0x55;
        seg = (a & 0x70) >> 4;
        t = ((a & 0x0f) << 4) + (seg ? 0x108 : 8);
        if (seg > 1) t <<= seg - 1;
        return (int16_t)((a & 0x80) ? t : -t);
    }

    static uint8_t g711_compress(int law, int linear) {
        int seg = 0, m;
        uint8_t sign;
        if (law == 0) {
            sign = linear < 0 ? 0x80 : 0;
            m = linear < 0 ? -linear : linear;
            m = (m > 32635 ? 32635 : m) + 0x84;
            while (m >> (seg + 8)) seg++;
            return (uint8_t)~(sign | (seg << 4) | ((m >> (seg + 3)) & 0x0f));
        }
        sign = linear < 0 ? 0 : 0x80;
        m = (linear < 0 ? ~linear : linear) >> 3;
        while (m >> (seg + 5)) seg++;
        return (uint8_t)((sign | (seg << 4) | ((m >> (seg ? seg : 1)) & 0x0f)) ^ 0x55);
    }

    static void g711_init(void) {
        int law, i;
        for (law = 0; law < 2; law++) {
            for (i = 0; i < 16384; i++)
                g711_octet[law][i] = g711_compress(law, (i << 2) - 32768);
            for (i = 0; i < 256; i++) {
                g711_linear[law][i] = g711_mix[law][i] = g711_expand(law, (uint8_t)i);
                g711_convert[law][i] = g711_compress(law, g711_expand(!law, (uint8_t)i));
            }
        }
        g711_mix[1][0xd5] = g711_mix[1][0x55] = 0;
    }
    #endif
    """
    int16_t g711_linear[2][256]
    int16_t g711_mix[2][256]
    uint8_t g711_octet[2][16384]
    uint8_t g711_convert[2][256]
    const uint8_t g711_silence[2]
    void g711_init() noexcept nogil
