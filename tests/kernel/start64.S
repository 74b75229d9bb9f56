/*
 * Start of a 64-bit test kernel: PVH entry (32-bit, paging off), page tables, long mode; the
 * exception and interrupt entries; code that runs something and comes back whatever it raises.
 *
 * Memory: 0 to 1 GiB identity (supervisor); the same at USER_BASE for user mode; the last GiB below
 * 4 GiB identity (devices). VAs from 2 to 3 GiB are the tests'.
 */
#define SEL_CODE 0x08
#define SEL_DATA 0x10

    .section .note.pvh, "a", @note
    .long 4, 4, 18 /* XEN_ELFNOTE_PHYS32_ENTRY */
    .asciz "Xen"
    .long pvh_entry

    .bss
    .balign 4096
    .globl pml4, pdpt, pd_kernel, pd_user
pml4: .skip 4096
pdpt: .skip 4096
pd_kernel: .skip 4096
pd_user: .skip 4096
pd_devices: .skip 4096
boot_stack: .skip 16384
boot_stack_top:

    .text
    .code32
    .globl pvh_entry
pvh_entry:
    cli
    cld
    mov $boot_stack_top, %esp
    mov $pdpt + 7, %eax
    mov %eax, pml4
    movl $pd_kernel + 3, pdpt
    movl $pd_user + 7, pdpt + 8
    movl $pd_devices + 3, pdpt + 24
    xor %ecx, %ecx
1:  mov %ecx, %eax
    shl $21, %eax
    lea 0x83(%eax), %edx
    mov %edx, pd_kernel(, %ecx, 8)
    lea 0x87(%eax), %edx
    mov %edx, pd_user(, %ecx, 8)
    lea 0xc0000093(%eax), %edx
    mov %edx, pd_devices(, %ecx, 8)
    inc %ecx
    cmp $512, %ecx
    jne 1b
    mov $0x620, %eax /* PAE, OSFXSR, OSXMMEXCPT */
    mov %eax, %cr4
    mov $pml4, %eax
    mov %eax, %cr3
    mov $0xc0000080, %ecx
    mov $0x901, %eax /* NXE, LME, SCE */
    xor %edx, %edx
    wrmsr
    mov $0x80010033, %eax /* PG, WP, NE, ET, MP, PE */
    mov %eax, %cr0
    lgdt boot_gdtr
    ljmp $SEL_CODE, $1f
    .code64
1:  mov $SEL_DATA, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    xor %eax, %eax
    mov %eax, %fs
    mov %eax, %gs
    mov $boot_stack_top, %rsp
    call kernel_main
1:  hlt
    jmp 1b

    .data
boot_gdtr:
    .word 0xff
    .quad gdt

/* Entries: those without an error code push -1 in its place. */
    .text
    .balign 16
    .globl entries
entries:
    vector = 0
    .rept 256
    .balign 16
    .if vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21
    .else
    push $-1
    .endif
    push $vector
    jmp common
    vector = vector + 1
    .endr

common:
    push %rax
    push %rcx
    push %rdx
    push %rbx
    push %rbp
    push %rsi
    push %rdi
    push %r8
    push %r9
    push %r10
    push %r11
    push %r12
    push %r13
    push %r14
    push %r15
    cld
    mov %rsp, %rdi
    call on_trap
    test %eax, %eax
    jnz recover
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %r11
    pop %r10
    pop %r9
    pop %r8
    pop %rdi
    pop %rsi
    pop %rbp
    pop %rbx
    pop %rdx
    pop %rcx
    pop %rax
    add $16, %rsp
    .globl entry_iret
entry_iret:
    iretq

/* void try_call(code, a, b, c): calls it; an exception that is not to be resumed ends the call. */
    .globl try_call
try_call:
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, recover_sp
    mov %rdi, %rax
    mov %rsi, %rdi
    mov %rdx, %rsi
    mov %rcx, %rdx
    call *%rax
/* A plain return of tried code comes here, an exception by IRET, which ends the NMI's block. */
    .globl back
back:
    cli
    cld
    mov recover_sp, %rsp
    movq $0, recover_sp
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    ret

recover:
    mov recover_sp, %rsp
    mov %rsp, %rax
    push $SEL_DATA
    push %rax
    push $2
    push $SEL_CODE
    push $back
    iretq

/* void try_user(code, a, b, cs): the same at CPL 3, flags user_flags; its RET must find user_exit. */
    .globl try_user
try_user:
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, recover_sp
    mov %rdi, %rax
    mov %rsi, %rdi
    mov %rdx, %rsi
    push $0x23
    push user_sp
    push user_flags
    push %rcx
    push %rax
    iretq

    .globl user_exit
user_exit:
    int $0x30
    .section .note.GNU-stack, "", @progbits
