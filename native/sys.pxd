# The operating system: sockets, epoll, eventfd, threads, clock and atomics.

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from *:
    """
    #define _GNU_SOURCE 1
    #include <arpa/inet.h>
    #include <errno.h>
    #include <netinet/in.h>
    #include <pthread.h>
    #include <signal.h>
    #include <string.h>
    #include <sys/epoll.h>
    #include <sys/eventfd.h>
    #include <sys/socket.h>
    #include <time.h>
    #include <unistd.h>

    /* An IPv4 or IPv6 socket address as plain data; length 0 = unknown. */
    typedef struct {
        union {
            struct sockaddr any;
            struct sockaddr_in v4;
            struct sockaddr_in6 v6;
        };
        socklen_t length;
    } relay_address;

    static inline uint64_t relay_now_ns(void) {
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
    }

    /* The wall clock as RTCP has it: seconds since 1900 and their 2^-32 parts (RFC 3550
     * section 4). */
    static inline uint64_t relay_now_ntp(void) {
        struct timespec t;
        clock_gettime(CLOCK_REALTIME, &t);
        return ((uint64_t)t.tv_sec + 2208988800u) << 32 | ((uint64_t)t.tv_nsec << 32) / 1000000000u;
    }

    static inline void relay_sleep_until(uint64_t ns) {
        struct timespec t = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
    }

    /* 0, or -1 when text is not an IP address literal. */
    static inline int relay_address_set(relay_address *a, const char *text, uint16_t port) {
        memset(a, 0, sizeof *a);
        if (inet_pton(AF_INET, text, &a->v4.sin_addr) == 1) {
            a->v4.sin_family = AF_INET;
            a->v4.sin_port = htons(port);
            a->length = sizeof a->v4;
            return 0;
        }
        if (inet_pton(AF_INET6, text, &a->v6.sin6_addr) == 1) {
            a->v6.sin6_family = AF_INET6;
            a->v6.sin6_port = htons(port);
            a->length = sizeof a->v6;
            return 0;
        }
        return -1;
    }

    static inline int relay_address_text(const relay_address *a, char *out, unsigned n) {
        if (a->length == 0)
            return -1;
        const void *host = a->any.sa_family == AF_INET ? (const void *)&a->v4.sin_addr
                                                       : (const void *)&a->v6.sin6_addr;
        return inet_ntop(a->any.sa_family, host, out, n) ? 0 : -1;
    }

    static inline int relay_is_ipv6(const relay_address *a) {
        return a->any.sa_family == AF_INET6;
    }

    static inline uint16_t relay_address_port(const relay_address *a) {
        return a->length == 0 ? 0 : ntohs(a->v4.sin_port); /* same place in both families */
    }

    static inline int relay_same_host(const relay_address *a, const relay_address *b) {
        if (a->length == 0 || b->length == 0 || a->any.sa_family != b->any.sa_family)
            return 0;
        if (a->any.sa_family == AF_INET)
            return a->v4.sin_addr.s_addr == b->v4.sin_addr.s_addr;
        return memcmp(&a->v6.sin6_addr, &b->v6.sin6_addr, 16) == 0;
    }

    static inline int relay_same_address(const relay_address *a, const relay_address *b) {
        return a->v4.sin_port == b->v4.sin_port && relay_same_host(a, b);
    }

    /* Is the address inside network/bits (network as 4 or 16 octets)? */
    static inline int relay_inside(const relay_address *a, const uint8_t *network,
                                   unsigned octets, unsigned bits) {
        const uint8_t *host;
        if (a->any.sa_family == AF_INET && octets == 4)
            host = (const uint8_t *)&a->v4.sin_addr;
        else if (a->any.sa_family == AF_INET6 && octets == 16)
            host = (const uint8_t *)&a->v6.sin6_addr;
        else
            return 0;
        if (memcmp(host, network, bits / 8))
            return 0;
        return bits % 8 == 0 || ((host[bits / 8] ^ network[bits / 8]) >> (8 - bits % 8)) == 0;
    }

    static inline int relay_receive(int fd, uint8_t *buffer, int size, relay_address *from) {
        from->length = sizeof from->v6;
        return (int)recvfrom(fd, buffer, (size_t)size, MSG_DONTWAIT | MSG_TRUNC, &from->any,
                             &from->length);
    }

    static inline int relay_send(int fd, const uint8_t *data, int size, const relay_address *to) {
        return (int)sendto(fd, data, (size_t)size, MSG_DONTWAIT | MSG_NOSIGNAL, &to->any,
                           to->length);
    }

    /* A bound non-blocking UDP socket, or -errno. What it may queue is limited: more than a
     * second of audio is of no use, and strangers must not fill the kernel's memory. */
    static inline int relay_bind(const relay_address *at) {
        int one = 1, queue_octets = 32768;
        int fd = socket(at->any.sa_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
            return -errno;
        if (at->any.sa_family == AF_INET6)
            setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &queue_octets, sizeof queue_octets);
        if (bind(fd, &at->any, at->length) < 0) {
            int problem = errno;
            close(fd);
            return -problem;
        }
        return fd;
    }

    static inline int relay_watch(int poll, int fd, void *data) {
        struct epoll_event e = {.events = EPOLLIN, .data = {.ptr = data}};
        return epoll_ctl(poll, EPOLL_CTL_ADD, fd, &e);
    }

    /* Closing is not enough to leave an epoll: a forked child may hold the socket still. */
    static inline void relay_forget(int poll, int fd) {
        struct epoll_event unused = {0};
        epoll_ctl(poll, EPOLL_CTL_DEL, fd, &unused);
        close(fd);
    }

    /* A thread that takes no signal: those are the interpreter's. 0 or an errno. */
    static inline int relay_thread_start(pthread_t *thread, void *(*body)(void *), void *data) {
        sigset_t all, before;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        int problem = pthread_create(thread, NULL, body, data);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        return problem;
    }

    /* What `top -H` shows: at most 15 octets. */
    static inline void relay_thread_name(const char *name) {
        pthread_setname_np(pthread_self(), name);
    }

    #define relay_load(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
    #define relay_store(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
    #define relay_add(p, v) __atomic_add_fetch((p), (v), __ATOMIC_ACQ_REL)

    static inline void *relay_take(void **head) {
        return __atomic_exchange_n(head, NULL, __ATOMIC_ACQ_REL);
    }

    static inline int relay_replace(void **head, void *expected, void *next) {
        return __atomic_compare_exchange_n(head, &expected, next, 0, __ATOMIC_ACQ_REL,
                                           __ATOMIC_RELAXED);
    }
    """
    ctypedef struct relay_address:
        uint32_t length
    ctypedef unsigned long pthread_t
    ctypedef union epoll_data_t:
        void *ptr
    cdef struct epoll_event:
        uint32_t events
        epoll_data_t data
    ctypedef void *(*thread_body)(void *) noexcept nogil

    uint64_t relay_now_ns() noexcept nogil
    uint64_t relay_now_ntp() noexcept nogil
    void relay_sleep_until(uint64_t ns) noexcept nogil
    int relay_address_set(relay_address *a, const char *text, uint16_t port) noexcept nogil
    int relay_address_text(const relay_address *a, char *out, unsigned n) noexcept nogil
    bint relay_is_ipv6(const relay_address *a) noexcept nogil
    uint16_t relay_address_port(const relay_address *a) noexcept nogil
    bint relay_same_host(const relay_address *a, const relay_address *b) noexcept nogil
    bint relay_same_address(const relay_address *a, const relay_address *b) noexcept nogil
    bint relay_inside(
        const relay_address *a, const uint8_t *network, unsigned octets, unsigned bits
    ) noexcept nogil
    int relay_receive(int fd, uint8_t *buffer, int size, relay_address *sender) noexcept nogil
    int relay_send(int fd, const uint8_t *data, int size, const relay_address *to) noexcept nogil
    int relay_bind(const relay_address *at) noexcept nogil
    int relay_watch(int poll, int fd, void *data) noexcept nogil
    void relay_forget(int poll, int fd) noexcept nogil
    int relay_thread_start(pthread_t *thread, thread_body body, void *data) noexcept nogil
    void relay_thread_name(const char *name) noexcept nogil
    int pthread_join(pthread_t thread, void **result) noexcept nogil
    int epoll_create1(int flags) noexcept nogil
    int epoll_wait(int poll, epoll_event *events, int count, int timeout_ms) noexcept nogil
    int eventfd(unsigned start, int flags) noexcept nogil
    int eventfd_write(int fd, uint64_t value) noexcept nogil
    int eventfd_read(int fd, uint64_t *value) noexcept nogil
    int close(int fd) noexcept nogil
    int EFD_CLOEXEC, EFD_NONBLOCK, EPOLL_CLOEXEC
    uint64_t relay_load64 "relay_load"(uint64_t *p) noexcept nogil
    void relay_store64 "relay_store"(uint64_t *p, uint64_t value) noexcept nogil
    int relay_load_int "relay_load"(int *p) noexcept nogil
    void relay_store_int "relay_store"(int *p, int value) noexcept nogil
    int relay_add_int "relay_add"(int *p, int value) noexcept nogil
    void *relay_load_pointer "relay_load"(void **p) noexcept nogil
    void *relay_take(void **head) noexcept nogil
    bint relay_replace(void **head, void *expected, void *next) noexcept nogil
