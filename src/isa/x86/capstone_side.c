#include "isa/x86/capstone_side.h"

#include <capstone/capstone.h>
#include <stdio.h>

bool capstone_decode(struct their_insn *insn, const uint8_t *code, size_t avail, unsigned mode)
{
    static csh handles[9];
    static cs_insn *theirs;
    if (!theirs) {
        cs_open(CS_ARCH_X86, CS_MODE_16, &handles[2]);
        cs_open(CS_ARCH_X86, CS_MODE_32, &handles[4]);
        cs_open(CS_ARCH_X86, CS_MODE_64, &handles[8]);
        theirs = cs_malloc(handles[8]);
    }
    uint64_t pc = 0;
    if (!cs_disasm_iter(handles[mode], &code, &avail, &pc, theirs)) {
        return false;
    }
    insn->len = theirs->size;
    snprintf(insn->name, sizeof(insn->name), "%s", theirs->mnemonic);
    snprintf(insn->text, sizeof(insn->text), "%s %s", theirs->mnemonic, theirs->op_str);
    return true;
}
