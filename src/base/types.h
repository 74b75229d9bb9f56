/* Scalar types with a meaning, used across the tree. */
#ifndef BASE_TYPES_H
#define BASE_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint64_t gpa_t;     /* guest physical address */
typedef uint64_t gva_t;     /* guest virtual (linear) address */
typedef uint64_t ram_off_t; /* offset in a RAM block list: names one byte of guest RAM or ROM */

#define GPA_NONE (~(gpa_t)0)

#endif
