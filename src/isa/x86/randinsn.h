/*
 * Random x86 instructions for differential tests: a form is chosen uniformly among those wanted,
 * then prefixes, registers, addressing and immediates. Every result decodes to that form.
 */
#ifndef ISA_X86_RANDINSN_H
#define ISA_X86_RANDINSN_H

#include <stdbool.h>
#include <stdint.h>

struct x86_random_opts {
    unsigned mode; /* code size: 2, 4, 8 */
    /*
     * General registers (bit n: register n) that may be the base of a memory operand, which then
     * has a displacement from disp_min to disp_max, and no index but one of `indexes` (vsib forms
     * have a vector). 0: any addressing, absolute and RIP-relative included. 16-bit code can only
     * use BX BP SI DI.
     */
    uint16_t bases, indexes;
    int32_t disp_min, disp_max;
    /* Adds prefixes that change nothing or the operand size; segment prefixes only without bases.
     */
    bool extra_prefixes;
    /* Which forms may be chosen; NULL: all. */
    bool (*want)(const void *arg, unsigned form);
    const void *arg;
};

/* Fills buf and returns the length, or 0 when no wanted form was found in reasonable time. */
int x86_random_insn(uint64_t *rng, const struct x86_random_opts *opts, uint8_t buf[16]);

/* The same for a given form; 0 when it cannot be encoded in this mode. */
int x86_random_of_form(uint64_t *rng, const struct x86_random_opts *opts, unsigned form,
                       uint8_t buf[16]);

/* Next number of the sequence (splitmix64). */
uint64_t x86_random_next(uint64_t *rng);

#endif
