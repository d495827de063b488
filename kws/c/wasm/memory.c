/* The functions of string.h beside this file. */
#include <string.h>

#define PLAIN __attribute__((no_builtin)) /* or the compiler would make each of them a call of itself */

PLAIN void *memcpy(void *restrict to, const void *restrict from, size_t n) {
    for (size_t i = 0; i < n; ++i) {
        ((char *)to)[i] = ((const char *)from)[i];
    }
    return to;
}

PLAIN void *memmove(void *to, const void *from, size_t n) {
    if ((const char *)to <= (const char *)from) {
        for (size_t i = 0; i < n; ++i) {
            ((char *)to)[i] = ((const char *)from)[i];
        }
    } else {
        for (size_t i = n; i-- > 0u;) {
            ((char *)to)[i] = ((const char *)from)[i];
        }
    }
    return to;
}

PLAIN void *memset(void *to, int value, size_t n) {
    for (size_t i = 0; i < n; ++i) {
        ((char *)to)[i] = (char)value;
    }
    return to;
}
