// Calls of the address sanitizer, nothing without it.
#pragma once
#if defined(__SANITIZE_ADDRESS__)
#define EMU_WITH_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define EMU_WITH_ASAN 1
#endif
#endif
#ifdef EMU_WITH_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
extern "C" int __sanitizer_get_ownership(const volatile void *p); // gcc does not ship its header
#define EMU_ASAN(call) call
#else
#define EMU_ASAN(call) (void)0
#endif
