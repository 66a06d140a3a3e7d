# The boot sector of the VM that the documents' commands run. In passes that never end it changes
# 448 KiB of memory, after looking whether the pass before is what is there, and writes the number of
# the pass to the disk's second sector: -1 if the memory was not what it should be. Who boots again
# begins at 1.
  .code16
  .globl _start
_start:
  cli
  xorw %ax, %ax
  movw %ax, %ds
  movw %ax, %ss
  movw $0x7c00, %sp
  sti
  cld
  movb %dl, drive
pass:
  incl count
  movl count, %eax
  movl %eax, %edx
  decl %edx
  movw $0x1000, %bx
segment:
  movw %bx, %es
  xorw %di, %di
word:
  testl %edx, %edx  # the first pass knows nothing of what is there
  jz change
  cmpl %es:(%di), %edx
  jne wrong
change:
  movl %eax, %es:(%di)
  addw $4, %di
  jnz word
  addw $0x1000, %bx
  cmpw $0x8000, %bx
  jne segment
  call tell
  jmp pass
wrong:
  movl $-1, %eax
  call tell
halt:
  hlt
  jmp halt
tell:
  movl %eax, sector
  pushal
  movb drive, %dl
  movw $packet, %si
  movw $0x4300, %ax
  int $0x13
  popal
  ret
drive:
  .byte 0
  .balign 4
count:
  .long 0
packet:  # for int 13h: one sector from 0:sector to block 1
  .byte 16, 0
  .word 1, sector, 0
  .quad 1
  .org 510
  .word 0xaa55
  .set sector, _start + 512
