/* MS_HOT: gcc compiles the function for AVX-512, AVX2 and plain x86-64 and picks at load time; results are the same.
** Levels, not processor names, and not under a sanitizer, for the reasons that MS_HOT of the kernels gives. */
#ifndef MS_DATA_HOT_H
#define MS_DATA_HOT_H

#if defined(__x86_64__) && defined(__GNUC__) && __GNUC__ >= 12 && !defined(__clang__) && \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define MS_HOT __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define MS_HOT
#endif

#endif
