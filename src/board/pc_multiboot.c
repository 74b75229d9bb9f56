/*
 * -kernel on boards with firmware, Multiboot images: kernel, modules and information are in guest
 * memory, which firmware leaves alone there, at each reset anew. An option ROM made here starts
 * them when firmware is done: it asks for the memory map, which only firmware knows, enters
 * protected mode, moves the information below 1 MiB, where kernels do not expect their own free
 * memory, and jumps. Plug and Play BIOS Specification 1.0A §3.2 (expansion header, boot
 * entry vector); ACPI 6.4 §15.1 (INT 15h, E820h).
 *
 * Does not do: kernels below 1 MiB, where firmware works.
 */
#include <errno.h>
#include <string.h>

#include "base/endian.h"
#include "base/err.h"
#include "board/load_file.h"
#include "board/load_multiboot.h"
#include "board/pc_base.h"
#include "dev/firmware/aml.h"
#include "dev/firmware/fw_cfg.h"

enum {
    MIB = 1 << 20,
    FIRMWARE_ROOM = 2 * MIB, /* at the end of low memory: its tables, and itself while it starts */
    TABLES_ROOM = 0x40000,   /* what of that it keeps */
    ROM_SIZE = 512,
    ROM_PNP = 0x20,
    ROM_NAME = 0x40,
    ROM_INIT = 0x50,
    ROM_GDTR = 0x58,
    ROM_START = 0x60,
    START_GDTR = 0x4e, /* operands in the code below */
    START_TARGET = 0x5a,
    BOARD_GDT = MULTIBOOT_BOARD,
    BOARD_CODE = MULTIBOOT_BOARD + 0x20,
    CODE_STAGE = 19,
    CODE_SIZE = 31,
    CODE_ENTRY = 56,
};

/* Real mode. The map gathers at 8000h, each entry as Multiboot wants it. */
static const uint8_t start16[] = {
    0x31, 0xc0,                                           /* xor ax, ax */
    0x8e, 0xc0,                                           /* mov es, ax */
    0xbf, 0x04, 0x80,                                     /* mov di, 8004h */
    0x66, 0x31, 0xdb,                                     /* xor ebx, ebx */
    0x66, 0xb8, 0x20, 0xe8, 0x00, 0x00,                   /* next: mov eax, 0e820h */
    0x66, 0xb9, 0x14, 0x00, 0x00, 0x00,                   /* mov ecx, 20 */
    0x66, 0xba, 0x50, 0x41, 0x4d, 0x53,                   /* mov edx, 'SMAP' */
    0x26, 0x66, 0xc7, 0x45, 0xfc, 0x14, 0x00, 0x00, 0x00, /* mov dword es:[di-4], 20 */
    0xcd, 0x15,                                           /* int 15h */
    0x72, 0x0e,                                           /* jc done */
    0x83, 0xc7, 0x18,                                     /* add di, 24 */
    0x81, 0xff, 0x04, 0x8c,                               /* cmp di, 8c04h */
    0x73, 0x05,                                           /* jae done */
    0x66, 0x85, 0xdb,                                     /* test ebx, ebx */
    0x75, 0xd3,                                           /* jnz next */
    0x81, 0xef, 0x04, 0x80,                               /* done: sub di, 8004h */
    0x66, 0x0f, 0xb7, 0xcf,                               /* movzx ecx, di */
    0xb8, 0x01, 0x24,                                     /* mov ax, 2401h */
    0x66, 0x51,                                           /* push ecx */
    0xcd, 0x15,                                           /* int 15h: A20 on */
    0x66, 0x59,                                           /* pop ecx */
    0xfa,                                                 /* cli */
    0x2e, 0x66, 0x0f, 0x01, 0x16, 0x00, 0x00,             /* lgdt cs:[START_GDTR] */
    0x0f, 0x20, 0xc0,                                     /* mov eax, cr0 */
    0x0c, 0x01,                                           /* or al, 1 */
    0x0f, 0x22, 0xc0,                                     /* mov cr0, eax */
    0x66, 0xea, 0x00, 0x00, 0x00, 0x00, 0x08, 0x00,       /* jmp 8:START_TARGET */
};

/* Protected mode, in the board's part of the information; ECX: the map's length. */
static const uint8_t start32[] = {
    0xb8, 0x10, 0x00, 0x00, 0x00,       /* mov eax, 10h */
    0x8e, 0xd8,                         /* mov ds, eax */
    0x8e, 0xc0,                         /* mov es, eax */
    0x8e, 0xe0,                         /* mov fs, eax */
    0x8e, 0xe8,                         /* mov gs, eax */
    0x8e, 0xd0,                         /* mov ss, eax */
    0x89, 0xca,                         /* mov edx, ecx */
    0xfc,                               /* cld */
    0xbe, 0x00, 0x00, 0x00, 0x00,       /* mov esi, CODE_STAGE */
    0xbb, 0x00, 0x00, 0x01, 0x00,       /* mov ebx, MULTIBOOT_INFO */
    0x89, 0xdf,                         /* mov edi, ebx */
    0xb9, 0x00, 0x00, 0x00, 0x00,       /* mov ecx, CODE_SIZE */
    0xf3, 0xa4,                         /* rep movsb */
    0x89, 0x53, 0x2c,                   /* mov [ebx+44], edx: mmap_length */
    0x89, 0xd1,                         /* mov ecx, edx */
    0xbe, 0x00, 0x80, 0x00, 0x00,       /* mov esi, 8000h */
    0x8d, 0xbb, 0x00, 0x01, 0x00, 0x00, /* lea edi, [ebx+100h]: MULTIBOOT_MMAP */
    0xf3, 0xa4,                         /* rep movsb */
    0xb9, 0x00, 0x00, 0x00, 0x00,       /* mov ecx, CODE_ENTRY */
    0xb8, 0x02, 0xb0, 0xad, 0x2b,       /* mov eax, 2badb002h */
    0xff, 0xe1,                         /* jmp ecx */
};

static int put_start32(struct x86_load *l, const struct multiboot *mb, struct err *err)
{
    static const uint64_t gdt[] = {0, 0x00cf9b000000ffff, 0x00cf93000000ffff};
    uint8_t code[sizeof(start32)];
    memcpy(code, start32, sizeof(code));
    store_le32(code + CODE_STAGE, mb->stage);
    store_le32(code + CODE_SIZE, mb->size);
    store_le32(code + CODE_ENTRY, mb->entry);
    int ret = x86_load_put(l, mb->stage + BOARD_GDT, gdt, sizeof(gdt), err);
    return ret ? ret : x86_load_put(l, mb->stage + BOARD_CODE, code, sizeof(code), err);
}

static void rom_put_pnp(uint8_t *pnp)
{
    memcpy(pnp, "$PnP", 4);
    pnp[4] = 1; /* revision */
    pnp[5] = 2; /* length, in 16 bytes */
    store_le16(pnp + 16, ROM_NAME);
    pnp[18] = 2;    /* device type: network controller, as is what starts without a disk */
    pnp[20] = 0x64; /* may be shadowed and read cached, can start a system */
    store_le16(pnp + 26, ROM_START);
    pnp[9] = acpi_checksum(pnp, 32);
}

static int add_rom(struct pc_base *b, const struct multiboot *mb, struct err *err)
{
    uint8_t rom[ROM_SIZE] = {0x55, 0xaa, ROM_SIZE / 512, 0xeb, ROM_INIT - 5}; /* jmp ROM_INIT */
    store_le16(rom + 0x1a, ROM_PNP);
    rom_put_pnp(rom + ROM_PNP);
    memcpy(rom + ROM_NAME, "Multiboot", 10);
    memcpy(rom + ROM_INIT, (uint8_t[]){0xb8, 0x20, 0, 0xcb}, 4); /* mov ax, 20h: it starts; retf */
    store_le16(rom + ROM_GDTR, 23);
    store_le32(rom + ROM_GDTR + 2, mb->stage + BOARD_GDT);
    memcpy(rom + ROM_START, start16, sizeof(start16));
    store_le16(rom + ROM_START + START_GDTR, ROM_GDTR);
    store_le32(rom + ROM_START + START_TARGET, mb->stage + BOARD_CODE);
    rom[ROM_SIZE - 1] = acpi_checksum(rom, ROM_SIZE - 1);
    return fw_cfg_add_file(b->fw_cfg, PC_MULTIBOOT_ROM, rom, sizeof(rom), err);
}

int pc_add_multiboot(struct pc_base *b, const struct load_file *kernel, struct err *err)
{
    const struct machine_config *c = &b->x86.machine->config;
    uint64_t low = b->x86.low_ram;
    struct multiboot mb = {.staged = true};
    struct x86_load l = {.mem = b->x86.machine->mem,
                         .kernel = c->kernel,
                         .initrd = c->initrd,
                         .cmdline = c->append ? c->append : "",
                         .low_ram_end = low};
    l.map[0] = (struct x86_range){0, 0x9fc00, X86_RANGE_RAM};
    l.map[1] = (struct x86_range){MIB, low - TABLES_ROOM - MIB, X86_RANGE_RAM};
    l.map_count = 2;
    int ret = x86_load_multiboot(&l, kernel, low - FIRMWARE_ROOM, &mb, err);
    ret = ret ? ret : put_start32(&l, &mb, err);
    ret = ret || b->kernel_loaded ? ret : add_rom(b, &mb, err);
    multiboot_free(&mb);
    return ret;
}
