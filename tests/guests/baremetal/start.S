# Entry of the bare-metal guest: QEMU (-kernel) finds it by the PVH note and jumps here in 32-bit
# protected mode, flat segments, paging off, %ebx = address of hvm_start_info.
#
# The program itself runs in 64-bit user mode, with the right to use ports, under an identity
# mapping of the first 4 GiB. User mode because nested KVMs exist (pvm) that run it at full speed
# but emulate this 32-bit code, paging off, so slowly that a pass over 1 MiB took seconds.

        .set PRESENT_WRITABLE_USER, 7
        .set HUGE, 0x80
        .set HUGE_PAGE, 0x200000

        .set CODE64_RING0, 0x08
        .set DATA_RING0, 0x10
        .set DATA_RING3, 0x18 | 3
        .set CODE64_RING3, 0x20 | 3
        .set FLAGS_IO_RING3, 0x3002

        .set CR4_PAE, 1 << 5
        .set EFER, 0xc0000080
        .set EFER_LONG_MODE, 1 << 8
        .set CR0_PAGING, 1 << 31

        .section .note.pvh, "a", @note
        .long 4, 4, 18                  # name size, value size, XEN_ELFNOTE_PHYS32_ENTRY
        .asciz "Xen"
        .long _start

        .section .text.start, "ax"
        .code32
        .globl _start
_start:
        cli
        cld
        mov %ebx, %edi                  # the argument of guest_main

        mov $directories, %esi
        mov $(HUGE | PRESENT_WRITABLE_USER), %eax
1:      mov %eax, (%esi)                # the upper halves are zero, as all of .bss
        add $8, %esi
        add $HUGE_PAGE, %eax
        jnc 1b                          # until the address wraps at 4 GiB
        movl $(directories + 0x0000 + PRESENT_WRITABLE_USER), pointers
        movl $(directories + 0x1000 + PRESENT_WRITABLE_USER), pointers + 8
        movl $(directories + 0x2000 + PRESENT_WRITABLE_USER), pointers + 16
        movl $(directories + 0x3000 + PRESENT_WRITABLE_USER), pointers + 24
        movl $(pointers + PRESENT_WRITABLE_USER), root

        mov %cr4, %eax
        or $CR4_PAE, %eax
        mov %eax, %cr4
        mov $root, %eax
        mov %eax, %cr3
        mov $EFER, %ecx
        rdmsr
        or $EFER_LONG_MODE, %eax
        wrmsr
        mov %cr0, %eax
        or $CR0_PAGING, %eax
        mov %eax, %cr0
        lgdt gdt_pointer
        ljmp $CODE64_RING0, $long_mode

        .code64
long_mode:
        mov $DATA_RING0, %eax
        mov %eax, %ss
        mov $DATA_RING3, %eax
        mov %eax, %ds
        mov %eax, %es
        mov $stack_top, %esp
        pushq $DATA_RING3
        pushq $stack_top
        pushq $FLAGS_IO_RING3
        pushq $CODE64_RING3
        pushq $user_mode
        iretq
user_mode:
        xor %ebp, %ebp
        mov %edi, %edi                  # clears the upper half
        call guest_main                 # does not return
        ud2

        .data
        .balign 8
gdt:    .quad 0
        .quad 0x00af9b000000ffff        # CODE64_RING0
        .quad 0x00cf93000000ffff        # DATA_RING0
        .quad 0x00cff3000000ffff        # DATA_RING3
        .quad 0x00affb000000ffff        # CODE64_RING3
gdt_pointer:
        .word . - gdt - 1
        .long gdt

        .bss
        .balign 4096
root:           .skip 4096
pointers:       .skip 4096
directories:    .skip 4 * 4096
                .skip 16384
stack_top:

        .section .note.GNU-stack, "", @progbits
