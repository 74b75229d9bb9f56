/*
 * 16550A UART: National Semiconductor PC16550D data sheet.
 *
 * Transmission takes no time: a byte goes to the backend as it is written, and the transmitter
 * is empty again at once unless the backend is full. Reception is as fast as the guest reads.
 *
 * Does not do: baud rates (the divisor is kept and used for the receive timeout only), parity
 * and framing errors, DMA mode, modem inputs other than "always connected" and loopback.
 */
#include "dev/serial/uart16550.h"

#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "core/fields.h"
#include "state/field.h"

enum {
    IER_RDA = 1,
    IER_THRE = 2,
    IER_RLS = 4,
    IER_MSI = 8,
    IIR_NONE = 1,
    IIR_MSI = 0,
    IIR_THRE = 2,
    IIR_RDA = 4,
    IIR_RLS = 6,
    IIR_CTI = 12,
    IIR_FIFO = 0xc0,
    FCR_ENABLE = 1,
    FCR_RX_RESET = 2,
    FCR_TX_RESET = 4,
    LCR_BREAK = 0x40,
    LCR_DLAB = 0x80,
    MCR_DTR = 1,
    MCR_RTS = 2,
    MCR_OUT1 = 4,
    MCR_OUT2 = 8,
    MCR_LOOP = 0x10,
    LSR_DR = 1,
    LSR_OE = 2,
    LSR_BI = 0x10,
    LSR_THRE = 0x20,
    LSR_TEMT = 0x40,
    MSR_DCTS = 1,
    MSR_TERI = 4,
    MSR_CTS = 0x10,
    MSR_DSR = 0x20,
    MSR_RI = 0x40,
    MSR_DCD = 0x80,
};

static bool fifo_on(const struct uart *u)
{
    return u->fcr & FCR_ENABLE;
}

static unsigned rx_size(const struct uart *u)
{
    return fifo_on(u) ? UART_FIFO : 1;
}

static unsigned rx_trigger(const struct uart *u)
{
    static const uint8_t level[] = {1, 4, 8, 14};
    return fifo_on(u) ? level[u->fcr >> 6] : 1;
}

/* Priorities: PC16550D table IV. */
static void uart_update(struct uart *u)
{
    uint8_t iir = IIR_NONE;
    if ((u->ier & IER_RLS) && (u->lsr & (LSR_OE | LSR_BI))) {
        iir = IIR_RLS;
    } else if ((u->ier & IER_RDA) && u->rx_count >= rx_trigger(u)) {
        iir = IIR_RDA;
    } else if ((u->ier & IER_RDA) && u->timeout_pending) {
        iir = IIR_CTI;
    } else if ((u->ier & IER_THRE) && u->thre_pending) {
        iir = IIR_THRE;
    } else if ((u->ier & IER_MSI) && (u->msr & 0xf)) {
        iir = IIR_MSI;
    }
    u->iir = iir;
    irq_set(&u->irq, iir != IIR_NONE && (u->mcr & MCR_OUT2));
}

/* Four characters' time at the programmed speed (1.8432 MHz crystal, 10 bits each). */
static uint64_t timeout_ns(const struct uart *u)
{
    return muldiv64(4 * 10 * 16 * (uint64_t)(u->divisor ? u->divisor : 1), NS_PER_SEC, 1843200);
}

static void uart_rx_changed(struct uart *u)
{
    u->timeout_pending = false;
    u->lsr = (uint8_t)(u->rx_count ? u->lsr | LSR_DR : u->lsr & ~LSR_DR);
    if (fifo_on(u) && u->rx_count && u->rx_count < rx_trigger(u)) {
        timer_set(&u->timeout, clock_ns(u->clock) + timeout_ns(u));
    } else {
        timer_unset(&u->timeout);
    }
}

static void uart_timeout(void *opaque)
{
    struct uart *u = opaque;
    AUTO_LOCK(&u->lock);
    if (u->rx_count) {
        u->timeout_pending = true;
        uart_update(u);
    }
}

static void uart_put_rx(struct uart *u, uint8_t byte)
{
    if (u->rx_count >= rx_size(u)) {
        u->lsr |= LSR_OE;
        return;
    }
    u->rx[(u->rx_head + u->rx_count++) % UART_FIFO] = byte;
}

size_t uart_rx_room(struct uart *u)
{
    AUTO_LOCK(&u->lock);
    size_t room = u->mcr & MCR_LOOP ? 0 : rx_size(u) - u->rx_count;
    u->rx_stopped |= !room;
    return room;
}

void uart_rx(struct uart *u, const uint8_t *buf, size_t len)
{
    AUTO_LOCK(&u->lock);
    for (size_t i = 0; i < len; i++) {
        uart_put_rx(u, buf[i]);
    }
    uart_rx_changed(u);
    uart_update(u);
}

void uart_break(struct uart *u)
{
    AUTO_LOCK(&u->lock);
    uart_put_rx(u, 0);
    u->lsr |= LSR_BI;
    uart_rx_changed(u);
    uart_update(u);
}

/* ---- Transmitter ---- */

static void uart_tx_flush(struct uart *u)
{
    size_t n = u->tx_count ? u->wires->tx(u->opaque, u->tx, u->tx_count) : 0;
    u->tx_count -= (uint8_t)n;
    memmove(u->tx, u->tx + n, u->tx_count);
    if (!u->tx_count) {
        if (!(u->lsr & LSR_THRE)) {
            u->thre_pending = true;
        }
        u->lsr |= LSR_THRE | LSR_TEMT;
    }
}

void uart_tx_ready(struct uart *u)
{
    AUTO_LOCK(&u->lock);
    uart_tx_flush(u);
    uart_update(u);
}

static void uart_write_thr(struct uart *u, uint8_t byte)
{
    u->thre_pending = false;
    u->lsr &= (uint8_t) ~(LSR_THRE | LSR_TEMT);
    if (u->mcr & MCR_LOOP) {
        uart_put_rx(u, byte);
        uart_rx_changed(u);
    } else if (u->tx_count < UART_FIFO) {
        u->tx[u->tx_count++] = byte;
    }
    uart_tx_flush(u);
}

/* ---- Registers ---- */

static void uart_write_ier(struct uart *u, uint8_t val)
{
    bool asked = val & ~u->ier & IER_THRE;
    u->ier = val & 0xf;
    if (asked && (u->lsr & LSR_THRE)) {
        u->thre_pending = true; /* enabling it with an empty transmitter gives one */
    }
}

static void uart_write_fcr(struct uart *u, uint8_t val)
{
    if ((val ^ u->fcr) & FCR_ENABLE) {
        val |= FCR_RX_RESET | FCR_TX_RESET;
    }
    u->fcr = val & (FCR_ENABLE | 0xc8);
    if (!fifo_on(u)) {
        u->fcr = 0;
    }
    if (val & FCR_RX_RESET) {
        u->rx_count = 0;
        u->lsr &= (uint8_t)~LSR_BI;
    }
    if (val & FCR_TX_RESET) {
        u->tx_count = 0;
        u->lsr |= LSR_THRE | LSR_TEMT;
        u->thre_pending = true;
    }
    uart_rx_changed(u);
}

/* In loopback the outputs come back as modem inputs: DTR-DSR, RTS-CTS, OUT1-RI, OUT2-DCD. */
static void uart_write_mcr(struct uart *u, uint8_t val)
{
    uint8_t lines = MSR_CTS | MSR_DSR | MSR_DCD;
    u->mcr = val & 0x1f;
    if (val & MCR_LOOP) {
        lines = (uint8_t)((val & MCR_DTR ? MSR_DSR : 0) | (val & MCR_RTS ? MSR_CTS : 0) |
                          (val & MCR_OUT1 ? MSR_RI : 0) | (val & MCR_OUT2 ? MSR_DCD : 0));
    }
    uint8_t changed = (uint8_t)((u->msr ^ lines) >> 4);
    if (changed & MSR_TERI && (lines & MSR_RI)) {
        changed &= (uint8_t)~MSR_TERI; /* RI counts at its trailing edge */
    }
    u->msr = (uint8_t)(lines | (u->msr & 0xf) | changed);
}

static void uart_write(struct uart *u, unsigned reg, uint8_t val)
{
    bool dlab = u->lcr & LCR_DLAB;
    switch (reg) {
    case 0:
        if (dlab) {
            u->divisor = (uint16_t)((u->divisor & 0xff00) | val);
        } else {
            uart_write_thr(u, val);
        }
        break;
    case 1:
        if (dlab) {
            u->divisor = (uint16_t)((u->divisor & 0xff) | val << 8);
        } else {
            uart_write_ier(u, val);
        }
        break;
    case 2: uart_write_fcr(u, val); break;
    case 3: u->lcr = val; break;
    case 4: uart_write_mcr(u, val); break;
    case 7: u->scr = val; break;
    }
}

static uint8_t uart_read_rbr(struct uart *u)
{
    if (!u->rx_count) {
        return u->rbr;
    }
    u->rbr = u->rx[u->rx_head];
    u->rx_head = (u->rx_head + 1) % UART_FIFO;
    u->rx_count--;
    uart_rx_changed(u);
    if (u->rx_stopped && !u->rx_count) {
        u->rx_stopped = false;
        u->wires->rx_room(u->opaque);
    }
    return u->rbr;
}

static uint8_t uart_read(struct uart *u, unsigned reg)
{
    bool dlab = u->lcr & LCR_DLAB;
    uint8_t val = 0;
    switch (reg) {
    case 0: return dlab ? (uint8_t)u->divisor : uart_read_rbr(u);
    case 1: return dlab ? (uint8_t)(u->divisor >> 8) : u->ier;
    case 2:
        val = u->iir | (fifo_on(u) ? IIR_FIFO : 0);
        if (u->iir == IIR_THRE) {
            u->thre_pending = false;
        }
        return val;
    case 3: return u->lcr;
    case 4: return u->mcr;
    case 5:
        val = u->lsr;
        u->lsr &= (uint8_t) ~(LSR_OE | LSR_BI);
        return val;
    case 6:
        val = u->msr;
        u->msr &= 0xf0;
        return val;
    default: return u->scr;
    }
}

static enum mem_result uart_mmio_read(void *dev, uint64_t off, unsigned size, uint64_t *val)
{
    struct uart *u = dev;
    AUTO_LOCK(&u->lock);
    *val = uart_read(u, off & 7);
    uart_update(u);
    return MEM_OK;
}

static enum mem_result uart_mmio_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
    struct uart *u = dev;
    AUTO_LOCK(&u->lock);
    uart_write(u, off & 7, (uint8_t)val);
    uart_update(u);
    return MEM_OK;
}

const struct mmio uart_mmio = {uart_mmio_read, uart_mmio_write, 1, 1};

/* ---- Life ---- */

void uart_init(struct uart *u, struct clock *clock, const struct uart_wires *wires, void *opaque)
{
    pthread_mutex_init(&u->lock, NULL);
    u->clock = clock;
    u->wires = wires;
    u->opaque = opaque;
    timer_init(&u->timeout, clock, uart_timeout, u);
    uart_reset(u);
}

void uart_fini(struct uart *u)
{
    if (u->clock) {
        timer_unset(&u->timeout);
        pthread_mutex_destroy(&u->lock);
    }
}

void uart_reset(struct uart *u)
{
    AUTO_LOCK(&u->lock);
    u->rbr = u->ier = u->fcr = u->lcr = u->scr = 0;
    u->mcr = 0;
    u->lsr = LSR_THRE | LSR_TEMT;
    u->msr = MSR_DCD | MSR_DSR | MSR_CTS;
    u->divisor = 12; /* 9600 baud */
    u->rx_count = u->rx_head = u->tx_count = 0;
    u->thre_pending = false;
    uart_rx_changed(u);
    uart_update(u);
}

/* ---- State ---- */

static const struct field uart_list[] = {
    FIELD(struct uart, lock, FIELD_HOST),
    FIELD(struct uart, wires, FIELD_HOST),
    FIELD(struct uart, opaque, FIELD_HOST),
    FIELD(struct uart, irq, FIELD_GUEST, .sub = &irq_fields),
    FIELD(struct uart, clock, FIELD_HOST),
    FIELD(struct uart, timeout, FIELD_GUEST, .sub = &timer_fields),
    FIELD(struct uart, rbr, FIELD_GUEST),
    FIELD(struct uart, ier, FIELD_GUEST),
    FIELD(struct uart, iir, FIELD_DERIVED),
    FIELD(struct uart, fcr, FIELD_GUEST),
    FIELD(struct uart, lcr, FIELD_GUEST),
    FIELD(struct uart, mcr, FIELD_GUEST),
    FIELD(struct uart, lsr, FIELD_GUEST),
    FIELD(struct uart, msr, FIELD_GUEST),
    FIELD(struct uart, scr, FIELD_GUEST),
    FIELD(struct uart, divisor, FIELD_GUEST),
    FIELD_ARRAY(struct uart, rx, FIELD_GUEST),
    FIELD(struct uart, rx_count, FIELD_GUEST, .max = UART_FIFO),
    FIELD(struct uart, rx_head, FIELD_GUEST, .max = UART_FIFO - 1),
    FIELD_ARRAY(struct uart, tx, FIELD_GUEST),
    FIELD(struct uart, tx_count, FIELD_GUEST, .max = UART_FIFO),
    FIELD(struct uart, thre_pending, FIELD_GUEST),
    FIELD(struct uart, timeout_pending, FIELD_GUEST),
    FIELD(struct uart, rx_stopped, FIELD_HOST),
};

static int uart_loaded(void *obj, struct err *err)
{
    struct uart *u = obj;
    AUTO_LOCK(&u->lock);
    if (u->rx_count > rx_size(u)) {
        return err_set(err, EINVAL, "state of uart16550: more was received than there is room for");
    }
    uart_update(u);
    return 0;
}

FIELD_SET_SHARED(uart_fields, "uart16550", struct uart, uart_list, 1, .loaded = uart_loaded);
