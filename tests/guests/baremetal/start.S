# Entry of the bare-metal guest: QEMU (-kernel) finds it by the PVH note and jumps here in 32-bit
# protected mode, flat segments, paging off, %ebx = address of hvm_start_info.

        .section .note.pvh, "a", @note
        .long 4, 4, 18                  # name size, value size, XEN_ELFNOTE_PHYS32_ENTRY
        .asciz "Xen"
        .long _start

        .section .text.start, "ax"
        .globl _start
_start:
        cli
        cld
        mov $stack_top, %esp
        xor %ebp, %ebp
        push %ebx
        call guest_main
1:      hlt
        jmp 1b

        .section .bss
        .balign 16
        .skip 16384
stack_top:

        .section .note.GNU-stack, "", @progbits
