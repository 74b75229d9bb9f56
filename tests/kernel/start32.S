/*
 * Start of a 32-bit test kernel: PVH entry, flat segments, paging off; exception entries; code that
 * runs something and comes back whatever it raises. The counterpart of start64.S.
 *
 * Tried code has its arguments in EDI and ESI, as in the 64-bit kernels.
 */
#define SEL_CODE 0x08
#define SEL_DATA 0x10
#define SEL_USER_DATA 0x23
#define FRAME_WORDS 17 /* struct frame up to the flags */

    .section .note.pvh, "a", @note
    .long 4, 4, 18 /* XEN_ELFNOTE_PHYS32_ENTRY */
    .asciz "Xen"
    .long pvh_entry

    .bss
    .balign 4096
boot_stack: .skip 16384
boot_stack_top:
odd_stack: .skip 8192
odd_stack_top:
odd_frame: .skip 256

    .text
    .globl pvh_entry
pvh_entry:
    cli
    cld
    mov $boot_stack_top, %esp
    lgdt boot_gdtr
    ljmp $SEL_CODE, $1f
1:  mov $SEL_DATA, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    xor %eax, %eax
    mov %eax, %fs
    mov %eax, %gs
    mov $0x33, %eax /* NE, ET, MP, PE */
    mov %eax, %cr0
    mov $0x600, %eax /* OSFXSR, OSXMMEXCPT */
    mov %eax, %cr4
    call kernel_main
1:  hlt
    jmp 1b

    .data
boot_gdtr:
    .word 0xff
    .long gdt

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
    pushal
    push %ds
    push %es
    push %fs
    push %gs
    cld
    mov $SEL_DATA, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %ss, %ecx
    cmp %eax, %ecx
    jne odd
    push %esp
    call on_trap
    add $4, %esp
    test %eax, %eax
    jnz recover
    pop %gs
    pop %fs
    pop %es
    pop %ds
    popal
    add $8, %esp
    iret

/* The stack is not the flat one: the frame is copied out of it, and there is no way back. */
odd:
    mov %esp, %esi
    mov $odd_frame, %edi
    mov $FRAME_WORDS, %ecx
1:  mov %ss:(%esi), %edx
    mov %edx, (%edi)
    add $4, %esi
    add $4, %edi
    loop 1b
    mov %eax, %ss
    mov $odd_stack_top, %esp
    push $odd_frame
    call on_trap
recover:
    mov $SEL_DATA, %eax
    mov %eax, %ss
    mov recover_sp, %esp
    push $2
    push $SEL_CODE
    push $back
    iret

/* void try_call(code, a, b, c) */
    .globl try_call
try_call:
    push %ebx
    push %ebp
    push %esi
    push %edi
    mov %esp, recover_sp
    mov 20(%esp), %eax
    mov 24(%esp), %edi
    mov 28(%esp), %esi
    call *%eax
    .globl back
back:
    cli
    cld
    mov $SEL_DATA, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov recover_sp, %esp
    movl $0, recover_sp
    xor %eax, %eax
    mov %eax, %fs
    mov %eax, %gs
    pop %edi
    pop %esi
    pop %ebp
    pop %ebx
    ret

/* void try_user(code, a, b, cs) */
    .globl try_user
try_user:
    push %ebx
    push %ebp
    push %esi
    push %edi
    mov %esp, recover_sp
    mov 20(%esp), %eax
    mov 24(%esp), %edi
    mov 28(%esp), %esi
    mov 32(%esp), %ecx
    mov $SEL_USER_DATA, %edx
    push %edx
    push user_sp
    push user_flags
    push %ecx
    push %eax
    mov %edx, %ds
    mov %edx, %es
    iret

    .globl user_exit
user_exit:
    int $0x30
    .section .note.GNU-stack, "", @progbits
