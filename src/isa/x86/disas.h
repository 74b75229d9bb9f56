/* Text of a decoded x86 instruction in Intel syntax, for logs. */
#ifndef ISA_X86_DISAS_H
#define ISA_X86_DISAS_H

#include "base/strbuf.h"
#include "isa/x86/decode.h"

/* Appends the text; `pc` is the address of the instruction. Returns its length in bytes. */
int x86_disas(struct strbuf *sb, const struct x86_insn *insn, uint64_t pc);

/* Appends the mnemonic alone: VEX forms get their "v", x87 names lose their operand part. */
void x86_disas_mnemonic(struct strbuf *sb, const struct x86_insn *insn);

/* Name of a general register, "al" "ah" "ax" "eax" "rax" by size; high as in struct x86_opnd. */
const char *x86_gpr_name(unsigned reg, unsigned size, bool high);

#endif
