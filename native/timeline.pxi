# The tap ring as Python sees it.

from tap cimport TapRingC


cdef class TapRing:
    cdef TapRingC ring
    cdef TapRingC *c

    def __cinit__(self, size_t capacity=1 << 20):
        self.c = &self.ring

    @property
    def pushed(self):
        return self.ring.pushed
