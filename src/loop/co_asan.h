/* AddressSanitizer wants to know of other stacks. */
#ifndef LOOP_CO_ASAN_H
#define LOOP_CO_ASAN_H

#include <stddef.h>

#if defined(__SANITIZE_ADDRESS__)
#define CO_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CO_ASAN 1
#endif
#endif

#ifdef CO_ASAN
#include <sanitizer/common_interface_defs.h>
#include <sanitizer/lsan_interface.h>
#define co_asan_start(save, base, size) __sanitizer_start_switch_fiber(save, base, size)
#define co_asan_finish(save, base, size) __sanitizer_finish_switch_fiber(save, base, size)
/* What only a stack points to is no leak. */
#define co_asan_keep(base, size) __lsan_register_root_region(base, size)
#define co_asan_drop(base, size) __lsan_unregister_root_region(base, size)
#else
#define co_asan_keep(base, size) ((void)(base), (void)(size))
#define co_asan_drop(base, size) ((void)(base), (void)(size))
#define co_asan_start(save, base, size) ((void)(save), (void)(base), (void)(size))
#define co_asan_finish(save, base, size) ((void)(save), (void)(base), (void)(size))
#endif

#endif
