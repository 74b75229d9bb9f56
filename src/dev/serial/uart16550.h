/* 16550A UART: the chip core. A binding gives it a register window and a line. */
#ifndef DEV_SERIAL_UART16550_H
#define DEV_SERIAL_UART16550_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/irq.h"
#include "core/mem.h"
#include "loop/clock.h"

#define UART_FIFO 16

/* Outputs. Called with the UART's lock held; they do not call back. */
struct uart_wires {
    size_t (*tx)(void *opaque, const uint8_t *buf, size_t len); /* how many were taken */
    void (*rx_room)(void *opaque);                              /* there is room again */
};

struct uart {
    pthread_mutex_t lock; /* all below */
    const struct uart_wires *wires;
    void *opaque;
    struct irq irq;
    struct clock *clock;
    struct timer timeout; /* receive FIFO not empty and below its trigger level */
    uint8_t rbr, ier, iir, fcr, lcr, mcr, lsr, msr, scr;
    uint16_t divisor;
    uint8_t rx[UART_FIFO], rx_count, rx_head;
    uint8_t tx[UART_FIFO], tx_count; /* what the backend has not taken yet */
    bool thre_pending;               /* the THRE interrupt is to be given */
    bool timeout_pending;
    bool rx_stopped; /* somebody waits for rx_room */
};

void uart_init(struct uart *u, struct clock *clock, const struct uart_wires *wires, void *opaque);
void uart_fini(struct uart *u);
void uart_reset(struct uart *u);
/* Inputs. */
size_t uart_rx_room(struct uart *u);
void uart_rx(struct uart *u, const uint8_t *buf, size_t len);
void uart_break(struct uart *u);
void uart_tx_ready(struct uart *u); /* the backend takes bytes again */

extern const struct mmio uart_mmio;        /* eight one-byte registers; dev: struct uart */
extern const struct field_set uart_fields; /* struct uart */

#endif
