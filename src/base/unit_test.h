/* cmocka needs these four before its own header; one place for it. */
#ifndef BASE_UNIT_TEST_H
#define BASE_UNIT_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#endif
