/* A load of RTP streams for bench/relay_cost.py: built by it with cc, not shipped.
 *
 *   generator ADDRESS WARMUP_MS DURATION_MS < ports
 *
 * Each line of stdin is "LOCAL_PORT REMOTE_HOST REMOTE_PORT SEND RECEIVE": one leg that sends
 * 50 packets/s of 172 octets, evenly spread over 20 ms, and counts what comes back. SEND and
 * RECEIVE are "-" for plain RTP, or session keys in hex: of AES_CM_128_HMAC_SHA1_80 (key,
 * authentication key, salt) or of AEAD_AES_128_GCM (key, salt). Then packets are closed and
 * opened, and only authentic ones with roll-over counter 0 count. Prints "begin" and "end"
 * around the measured time, then one JSON line. Latency is from just before sendto to the
 * kernel's receive time stamp, so the receiver here may be lazy without spoiling it.
 * Whether this program kept up itself is said by "late" (packets sent over 5 ms late) and
 * "unread" (packets that came back and found its own socket full).
 */
#define _GNU_SOURCE
#define OPENSSL_SUPPRESS_DEPRECATED
#include <arpa/inet.h>
#include <errno.h>
#include <linux/sock_diag.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { LEGS = 8192, OCTETS = 172, FRAME_NS = 20000000, TICK_NS = 100000, BUCKETS = 200001,
       LATE_NS = 5000000, TAG = 10, SESSION = 16 + 20 + 14, GCM_TAG = 16,
       GCM_SESSION = 16 + 12 };

struct srtp {
    EVP_CIPHER_CTX *cipher; /* NULL: plain RTP */
    int tag;                /* GCM_TAG: AES-GCM */
    SHA_CTX inner, outer;
    uint8_t salt[14];
};

static struct leg {
    int fd;
    struct srtp send, receive;
    struct sockaddr_in to;
    uint16_t sequence;
} legs[LEGS];
static int leg_count;
static uint64_t measured_from, measured_until;
static volatile int finished;
static uint64_t sent, received, late, unread, latency_us[BUCKETS];

static uint64_t clock_ns(clockid_t id) {
    struct timespec t;
    clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void srtp_set(struct srtp *s, const char *hex, int sends) {
    uint8_t session[SESSION], pad[64] = {0};
    size_t octets = strlen(hex) / 2;
    if (octets != SESSION && octets != GCM_SESSION)
        return;
    for (size_t i = 0; i < octets; i++)
        sscanf(hex + 2 * i, "%2hhx", &session[i]);
    s->cipher = EVP_CIPHER_CTX_new();
    s->tag = octets == SESSION ? TAG : GCM_TAG;
    if (s->tag == GCM_TAG) {
        EVP_CipherInit_ex(s->cipher, EVP_aes_128_gcm(), NULL, session, NULL, sends);
        memcpy(s->salt, session + 16, 12);
        return;
    }
    memcpy(pad, session + 16, 20);
    for (int i = 0; i < 64; i++)
        pad[i] ^= 0x36;
    SHA1_Init(&s->inner);
    SHA1_Update(&s->inner, pad, 64);
    for (int i = 0; i < 64; i++)
        pad[i] ^= 0x36 ^ 0x5c;
    SHA1_Init(&s->outer);
    SHA1_Update(&s->outer, pad, 64);
    memcpy(s->salt, session + 36, 14);
    EVP_EncryptInit_ex(s->cipher, EVP_aes_128_ctr(), NULL, session, NULL);
}

static void srtp_crypt(struct srtp *s, uint8_t *p) {
    uint8_t iv[16] = {0};
    int n;
    memcpy(iv, s->salt, 14);
    for (int i = 0; i < 4; i++)
        iv[4 + i] ^= p[8 + i];
    iv[12] ^= p[2];
    iv[13] ^= p[3];
    EVP_EncryptInit_ex(s->cipher, NULL, NULL, NULL, iv);
    EVP_EncryptUpdate(s->cipher, p + 12, &n, p + 12, OCTETS - 12);
}

static void srtp_tag(struct srtp *s, const uint8_t *p, uint8_t *digest) {
    static const uint8_t roc[4];
    SHA_CTX c = s->inner;
    SHA1_Update(&c, p, OCTETS);
    SHA1_Update(&c, roc, 4);
    SHA1_Final(digest, &c);
    c = s->outer;
    SHA1_Update(&c, digest, 20);
    SHA1_Final(digest, &c);
}

/* RFC 7714 section 8.1; the packet lies at p, its tag behind it. 1 when it is authentic. */
static int srtp_gcm(struct srtp *s, uint8_t *p, int sends) {
    uint8_t iv[12];
    int n;
    memcpy(iv, s->salt, 12);
    for (int i = 0; i < 4; i++)
        iv[2 + i] ^= p[8 + i];
    iv[10] ^= p[2];
    iv[11] ^= p[3];
    EVP_CipherInit_ex(s->cipher, NULL, NULL, NULL, iv, sends);
    EVP_CipherUpdate(s->cipher, NULL, &n, p, 12);
    EVP_CipherUpdate(s->cipher, p + 12, &n, p + 12, OCTETS - 12);
    if (!sends)
        EVP_CIPHER_CTX_ctrl(s->cipher, EVP_CTRL_GCM_SET_TAG, GCM_TAG, p + OCTETS);
    if (EVP_CipherFinal_ex(s->cipher, p + OCTETS, &n) != 1)
        return 0;
    if (sends)
        EVP_CIPHER_CTX_ctrl(s->cipher, EVP_CTRL_GCM_GET_TAG, GCM_TAG, p + OCTETS);
    return 1;
}

static void srtp_close(struct srtp *s, uint8_t *p) {
    if (s->tag == GCM_TAG) {
        srtp_gcm(s, p, 1);
        return;
    }
    srtp_crypt(s, p);
    srtp_tag(s, p, p + OCTETS);
}

static int srtp_open(struct srtp *s, uint8_t *p) {
    uint8_t digest[20];
    if (s->tag == GCM_TAG)
        return srtp_gcm(s, p, 0);
    srtp_tag(s, p, digest);
    if (memcmp(digest, p + OCTETS, TAG))
        return 0;
    srtp_crypt(s, p);
    return 1;
}

static void send_one(struct leg *leg, int number, uint64_t due) {
    uint8_t p[OCTETS + 20] = {0x80, 0};
    int octets = OCTETS;
    uint32_t stamp = htonl((uint32_t)leg->sequence * 160), ssrc = htonl((uint32_t)number + 1);
    uint16_t sequence = htons(leg->sequence++);
    uint8_t counted = due >= measured_from && due < measured_until;
    uint64_t now = clock_ns(CLOCK_REALTIME);
    memcpy(p + 2, &sequence, 2);
    memcpy(p + 4, &stamp, 4);
    memcpy(p + 8, &ssrc, 4);
    memcpy(p + 12, &now, 8);
    p[20] = counted;
    if (leg->send.cipher) {
        srtp_close(&leg->send, p);
        octets += leg->send.tag;
    }
    if (sendto(leg->fd, p, octets, 0, (struct sockaddr *)&leg->to, sizeof leg->to) == octets)
        sent += counted;
}

static void *send_all(void *unused) {
    uint64_t start = clock_ns(CLOCK_MONOTONIC), next = start;
    uint64_t *due = calloc((size_t)leg_count, sizeof *due);
    int at = 0;
    (void)unused;
    prctl(PR_SET_TIMERSLACK, 1000);
    for (int i = 0; i < leg_count; i++)
        due[i] = start + (uint64_t)i * FRAME_NS / (uint64_t)leg_count;
    while (!finished) {
        uint64_t now = clock_ns(CLOCK_MONOTONIC);
        while (due[at] <= now) {
            send_one(&legs[at], at, due[at]);
            late += now > due[at] + LATE_NS && due[at] >= measured_from;
            due[at] += FRAME_NS;
            at = (at + 1) % leg_count;
        }
        next = now + TICK_NS;
        struct timespec t = {(time_t)(next / 1000000000u), (long)(next % 1000000000u)};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
    }
    return NULL;
}

static void receive_one(struct leg *leg) {
    uint8_t p[2048], control[256];
    struct iovec data = {p, sizeof p};
    struct msghdr m = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = control,
                       .msg_controllen = sizeof control};
    ssize_t n = recvmsg(leg->fd, &m, MSG_DONTWAIT);
    struct timespec at;
    uint64_t then;
    if (leg->receive.cipher)
        n = n == OCTETS + leg->receive.tag && srtp_open(&leg->receive, p) ? OCTETS : 0;
    if (n != OCTETS || !p[20])
        return;
    received++;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c))
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_TIMESTAMPNS) {
            memcpy(&at, CMSG_DATA(c), sizeof at);
            memcpy(&then, p + 12, 8);
            uint64_t us = ((uint64_t)at.tv_sec * 1000000000u + (uint64_t)at.tv_nsec - then) / 1000;
            latency_us[us < BUCKETS ? us : BUCKETS - 1]++;
        }
}

static void *receive_all(void *unused) {
    struct epoll_event events[512];
    int poll = epoll_create1(0), n;
    (void)unused;
    for (int i = 0; i < leg_count; i++) {
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = &legs[i]};
        epoll_ctl(poll, EPOLL_CTL_ADD, legs[i].fd, &e);
    }
    while (!finished) {
        while ((n = epoll_wait(poll, events, 512, 0)) > 0)
            for (int i = 0; i < n; i++)
                receive_one(events[i].data.ptr);
        usleep(2000);
    }
    return NULL;
}

static void add_leg(const char *address, int local, const char *host, int remote,
                    const char *send, const char *receive) {
    struct leg *leg = &legs[leg_count++];
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons((uint16_t)local)};
    int one = 1;
    srtp_set(&leg->send, send, 1);
    srtp_set(&leg->receive, receive, 0);
    inet_pton(AF_INET, address, &here.sin_addr);
    leg->fd = socket(AF_INET, SOCK_DGRAM, 0);
    leg->to.sin_family = AF_INET;
    leg->to.sin_port = htons((uint16_t)remote);
    inet_pton(AF_INET, host, &leg->to.sin_addr);
    setsockopt(leg->fd, SOL_SOCKET, SO_TIMESTAMPNS, &one, sizeof one);
    if (leg->fd < 0 || bind(leg->fd, (struct sockaddr *)&here, sizeof here) < 0) {
        fprintf(stderr, "generator: %s port %d: %s\n", address, local, strerror(errno));
        exit(1);
    }
}

static uint64_t percentile(double share) {
    uint64_t sum = 0;
    for (int i = 0; i < BUCKETS; i++) {
        sum += latency_us[i];
        if (sum > 0 && sum >= share * (double)received)
            return (uint64_t)i;
    }
    return BUCKETS - 1;
}

static void count_unread(void) {
    for (int i = 0; i < leg_count; i++) {
        uint32_t memory[SK_MEMINFO_VARS] = {0};
        socklen_t size = sizeof memory;
        getsockopt(legs[i].fd, SOL_SOCKET, SO_MEMINFO, memory, &size);
        unread += memory[SK_MEMINFO_DROPS];
    }
}

static void wait_until(uint64_t ns) {
    struct timespec t = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR) {
    }
}

int main(int argc, char **argv) {
    pthread_t sender, receiver;
    char host[64], send[128], receive[128];
    int local, remote;
    if (argc != 4)
        return 2;
    while (leg_count < LEGS
           && scanf("%d %63s %d %127s %127s", &local, host, &remote, send, receive) == 5)
        add_leg(argv[1], local, host, remote, send, receive);
    if (leg_count == 0)
        return 2;
    measured_from = clock_ns(CLOCK_MONOTONIC) + strtoull(argv[2], NULL, 10) * 1000000u;
    measured_until = measured_from + strtoull(argv[3], NULL, 10) * 1000000u;
    pthread_create(&receiver, NULL, receive_all, NULL);
    pthread_create(&sender, NULL, send_all, NULL);
    wait_until(measured_from);
    puts("begin");
    fflush(stdout);
    wait_until(measured_until);
    puts("end");
    fflush(stdout);
    wait_until(measured_until + 300000000u);
    finished = 1;
    pthread_join(sender, NULL);
    pthread_join(receiver, NULL);
    count_unread();
    printf("{\"sent\": %lu, \"received\": %lu, \"late\": %lu, \"unread\": %lu, \"p50_us\": %lu, "
           "\"p95_us\": %lu, \"p99_us\": %lu, \"max_us\": %lu}\n",
           sent, received, late, unread, percentile(0.50), percentile(0.95), percentile(0.99),
           percentile(1.0));
    return 0;
}
