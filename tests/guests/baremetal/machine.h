/* What there is of a machine without an operating system: ports, the first serial port, power. */
#pragma once

#include <stdint.h>

void serial_open(void);
void serial_print(const char* text);
int serial_read(void); /* the next byte, or -1 if none has come */

_Noreturn void power_off(void);
