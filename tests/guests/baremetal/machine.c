#include "machine.h"

enum {
  COM1 = 0x3f8,
  COM1_LINE_STATUS = COM1 + 5,
  DATA_READY = 1 << 0,
  TRANSMITTER_EMPTY = 1 << 5,
};

static void out8(uint16_t port, uint8_t value) {
  __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static void out16(uint16_t port, uint16_t value) {
  __asm__ volatile("outw %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static uint8_t in8(uint16_t port) {
  uint8_t value;
  __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port) : "memory");
  return value;
}

void serial_open(void) {
  out8(COM1 + 1, 0);    /* no interrupts */
  out8(COM1 + 3, 0x80); /* divisor: 115200 baud */
  out8(COM1 + 0, 1);
  out8(COM1 + 1, 0);
  out8(COM1 + 3, 0x03); /* 8n1 */
  out8(COM1 + 2, 0x07); /* FIFO on and cleared */
  out8(COM1 + 4, 0x03);
}

void serial_print(const char* text) {
  for (; *text; text++) {
    while (!(in8(COM1_LINE_STATUS) & TRANSMITTER_EMPTY)) {
    }
    out8(COM1, (uint8_t)*text);
  }
}

int serial_read(void) {
  return in8(COM1_LINE_STATUS) & DATA_READY ? in8(COM1) : -1;
}

/* Port reads leave the virtual CPU, so QEMU gets to act on what was asked of it. */
static void wait_for_qemu(void) {
  for (int i = 0; i < 5000; i++) {
    in8(0x80);
  }
}

_Noreturn void power_off(void) {
  /* q35, pc: PM1a_CNT where SeaBIOS puts it: SLP_EN, SLP_TYP of S5. Not there on microvm. */
  out16(0x604, 0x2000);
  wait_for_qemu();
  /* microvm: sleep control of the ACPI generic event device, S5. */
  *(volatile uint8_t*)(uintptr_t)0xfea00200 = 5 << 2 | 1 << 5;
  wait_for_qemu();
  /* Whatever is left: a reset, which ends QEMU if it was started with -no-reboot. */
  out8(0x64, 0xfe);
  wait_for_qemu();
  __asm__ volatile("ud2"); /* no interrupt table: a triple fault */
  __builtin_unreachable();
}
