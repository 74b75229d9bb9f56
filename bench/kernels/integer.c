/* Integer kernels: hashing, sorting, tables, lists, checksums, wide multiply and divide. */
#include "kernels.h"
#include <stdlib.h>
#include <string.h>

static const uint32_t sha_k[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static inline uint32_t rotr(uint32_t x, unsigned n)
{
    return x >> n | x << (32 - n);
}

/* FIPS 180-4 6.2.2 */
static NOINLINE void sha256_block(uint32_t h[8], const uint8_t *data)
{
    uint32_t w[64], s[8];
    for (int i = 0; i < 16; i++) {
        uint32_t v;
        memcpy(&v, data + 4 * i, 4);
        w[i] = __builtin_bswap32(v);
    }
    for (int i = 16; i < 64; i++) {
        uint32_t a = w[i - 15], b = w[i - 2];
        w[i] = w[i - 16] + w[i - 7] + (rotr(a, 7) ^ rotr(a, 18) ^ a >> 3) +
               (rotr(b, 17) ^ rotr(b, 19) ^ b >> 10);
    }
    memcpy(s, h, sizeof(s));
    for (int i = 0; i < 64; i++) {
        uint32_t e = s[4], a = s[0];
        uint32_t t1 = s[7] + (rotr(e, 6) ^ rotr(e, 11) ^ rotr(e, 25)) + ((e & s[5]) ^ (~e & s[6])) +
                      sha_k[i] + w[i];
        uint32_t t2 =
            (rotr(a, 2) ^ rotr(a, 13) ^ rotr(a, 22)) + ((a & s[1]) ^ (a & s[2]) ^ (s[1] & s[2]));
        s[7] = s[6], s[6] = s[5], s[5] = s[4], s[4] = s[3] + t1;
        s[3] = s[2], s[2] = s[1], s[1] = s[0], s[0] = t1 + t2;
    }
    for (int i = 0; i < 8; i++) {
        h[i] += s[i];
    }
}

static uint64_t sha256(unsigned long n)
{
    static uint8_t data[4096];
    uint32_t h[8] = {1, 2, 3, 4, 5, 6, 7, 8}, seed = 1;
    for (size_t i = 0; i < sizeof(data); i++) {
        data[i] = (uint8_t)next_random(&seed);
    }
    while (n--) {
        for (size_t i = 0; i < sizeof(data); i += 64) {
            sha256_block(h, data + i);
        }
    }
    return (uint64_t)h[0] << 32 | h[7];
}

static NOINLINE void sort(uint32_t *a, long lo, long hi)
{
    while (lo < hi) {
        uint32_t pivot = a[(lo + hi) / 2];
        long i = lo, j = hi;
        while (i <= j) {
            while (a[i] < pivot) {
                i++;
            }
            while (a[j] > pivot) {
                j--;
            }
            if (i <= j) {
                uint32_t t = a[i];
                a[i++] = a[j];
                a[j--] = t;
            }
        }
        sort(a, lo, j);
        lo = i;
    }
}

static uint64_t quicksort(unsigned long n)
{
    static uint32_t a[50000];
    uint32_t seed = 7;
    uint64_t sum = 0;
    while (n--) {
        for (size_t i = 0; i < 50000; i++) {
            a[i] = next_random(&seed);
        }
        sort(a, 0, 49999);
        sum = mix(sum, a[n % 50000]);
    }
    return sum;
}

struct hash_entry {
    char key[12];
    uint32_t value;
};

static NOINLINE struct hash_entry *hash_find(struct hash_entry *table, size_t size, const char *key)
{
    uint32_t h = 2166136261u;
    for (const char *p = key; *p; p++) {
        h = (h ^ (uint8_t)*p) * 16777619u;
    }
    size_t i = h & (size - 1);
    while (table[i].key[0] && strcmp(table[i].key, key) != 0) {
        i = (i + 1) & (size - 1);
    }
    return &table[i];
}

static uint64_t hash_table(unsigned long n)
{
    static struct hash_entry table[16384];
    uint32_t seed = 3;
    uint64_t sum = 0;
    memset(table, 0, sizeof(table));
    while (n--) {
        char key[12];
        uint32_t v = next_random(&seed) % 10007;
        int len = 0;
        do {
            key[len++] = (char)('a' + v % 26);
            v /= 26;
        } while (v);
        key[len++] = '.';
        key[len] = 0;
        struct hash_entry *e = hash_find(table, 16384, key);
        memcpy(e->key, key, sizeof(key));
        sum = mix(sum, ++e->value);
    }
    return sum;
}

static uint64_t crc(unsigned long n)
{
    static uint8_t data[4096];
    static uint32_t table[256];
    uint32_t c = ~0u, seed = 5;
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t v = i;
        for (int b = 0; b < 8; b++) {
            v = v >> 1 ^ (v & 1 ? 0xedb88320u : 0);
        }
        table[i] = v;
    }
    for (size_t i = 0; i < sizeof(data); i++) {
        data[i] = (uint8_t)next_random(&seed);
    }
    while (n--) {
        for (size_t i = 0; i < sizeof(data); i++) {
            c = c >> 8 ^ table[(uint8_t)(c ^ data[i])];
        }
    }
    return c;
}

static NOINLINE void multiply(int32_t *c, const int16_t *a, const int16_t *b)
{
    for (int i = 0; i < 32; i++) {
        for (int j = 0; j < 32; j++) {
            int32_t sum = 0;
            for (int k = 0; k < 32; k++) {
                sum += a[i * 32 + k] * b[k * 32 + j];
            }
            c[i * 32 + j] = sum;
        }
    }
}

static uint64_t int_matrix(unsigned long n)
{
    static int16_t a[1024], b[1024];
    static int32_t c[1024];
    uint32_t seed = 9;
    uint64_t sum = 0;
    for (int i = 0; i < 1024; i++) {
        a[i] = (int16_t)next_random(&seed);
        b[i] = (int16_t)next_random(&seed);
    }
    while (n--) {
        multiply(c, a, b);
        sum = mix(sum, (uint32_t)c[n & 1023]);
        a[n & 1023] = (int16_t)sum;
    }
    return sum;
}

struct list_node {
    struct list_node *next;
    uint32_t value;
};

static NOINLINE struct list_node *list_merge(struct list_node *a, struct list_node *b)
{
    struct list_node head, *tail = &head;
    while (a && b) {
        struct list_node **least = a->value <= b->value ? &a : &b;
        tail = tail->next = *least;
        *least = (*least)->next;
    }
    tail->next = a ? a : b;
    return head.next;
}

static struct list_node *list_sort(struct list_node *list)
{
    if (!list || !list->next) {
        return list;
    }
    struct list_node *slow = list, *fast = list->next;
    while (fast && fast->next) {
        slow = slow->next;
        fast = fast->next->next;
    }
    struct list_node *second = slow->next;
    slow->next = NULL;
    return list_merge(list_sort(list), list_sort(second));
}

static uint64_t list(unsigned long n)
{
    static struct list_node nodes[1000];
    uint32_t seed = 11;
    uint64_t sum = 0;
    while (n--) {
        for (int i = 0; i < 1000; i++) {
            nodes[i].value = next_random(&seed);
            nodes[i].next = i < 999 ? &nodes[i + 1] : NULL;
        }
        for (struct list_node *p = list_sort(nodes); p; p = p->next) {
            sum = sum * 31 + p->value;
        }
    }
    return sum;
}

static uint64_t muldiv(unsigned long n)
{
    uint64_t x = 88172645463325252u, sum = 0;
    while (n--) {
        unsigned __int128 p = (unsigned __int128)x * 0xd1342543de82ef95u;
        x = (uint64_t)p ^ (uint64_t)(p >> 64) ^ n;
        sum += x / ((sum >> 40) + 3) + x % 1000003;
    }
    return sum ^ x;
}

static uint64_t words(unsigned long n)
{
    static uint64_t a[1024];
    while (n--) {
        for (int i = 0; i < 1024; i++) {
            a[i] = (a[i] ^ n) + (a[(i + 1) & 1023] >> 3);
        }
    }
    return a[0] ^ a[511] ^ a[1023];
}

const struct kernel integer_kernels[] = {{"sha256", "integer", sha256, 20000},
                                         {"quicksort", "integer", quicksort, 60},
                                         {"hash", "integer", hash_table, 6000000},
                                         {"crc", "integer", crc, 20000},
                                         {"matrix", "integer", int_matrix, 8000},
                                         {"list", "integer", list, 3000},
                                         {"muldiv", "integer", muldiv, 60000000},
                                         {"words", "integer", words, 240000},
                                         {0}};
