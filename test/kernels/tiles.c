/* tiles.c - AMX on CPUs without it: instructions on tiles, executed when they trap
 *
 * Preloaded into a process that runs code for a CPU with AMX int8. The code itself runs as it is; each instruction on
 * tiles raises SIGILL, and the handler does its work on tiles in memory, with the checks of the instruction set manual.
 * What the manual forbids ends the process with status 70. Requests for the system's permission succeed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

struct Tiles {
  int configured;
  unsigned rows[8], cols[8]; /* cols in bytes */
  uint8_t data[8][16][64];
};
static __thread struct Tiles tiles __attribute__((tls_model("initial-exec")));
static unsigned long executed;

static void refuse(const char *what) {
  static const char start[] = "tiles: ", end[] = "\n";
  ssize_t ignored = write(2, start, sizeof(start) - 1);
  ignored = write(2, what, strlen(what));
  ignored = write(2, end, 1);
  (void)ignored;
  _exit(70);
}

static void configure(const uint8_t *config) {
  memset(&tiles, 0, sizeof(tiles));
  if (config[0] == 0)
    return;
  if (config[0] != 1 || config[1] != 0)
    refuse("ldtilecfg: wrong palette or start row");
  for (int i = 2; i < 64; ++i)
    if (config[i] && (i < 16 || (i >= 32 && i < 48) || i >= 56))
      refuse("ldtilecfg: reserved bytes are not zero");
  for (int i = 0; i < 8; ++i) {
    tiles.rows[i] = config[48 + i];
    tiles.cols[i] = config[16 + 2 * i] | config[17 + 2 * i] << 8;
    if (tiles.rows[i] > 16 || tiles.cols[i] > 64 || !tiles.rows[i] != !tiles.cols[i])
      refuse("ldtilecfg: wrong shape");
  }
  tiles.configured = 1;
}

static void needs(unsigned tile) {
  if (!tiles.configured || !tiles.rows[tile])
    refuse("a tile is used that is not configured");
}

static void dot(unsigned c, unsigned a, unsigned b) {
  needs(c), needs(a), needs(b);
  if (c == a || c == b || a == b)
    refuse("tdpbsud: operands are not distinct");
  if (tiles.rows[c] != tiles.rows[a] || tiles.cols[c] != tiles.cols[b] || tiles.cols[a] != 4 * tiles.rows[b] ||
      tiles.cols[c] % 4)
    refuse("tdpbsud: shapes do not fit");
  for (unsigned m = 0; m < tiles.rows[c]; ++m)
    for (unsigned n = 0; n < tiles.cols[c] / 4; ++n) {
      int32_t sum;
      memcpy(&sum, &tiles.data[c][m][4 * n], 4);
      for (unsigned k = 0; k < tiles.cols[a]; ++k)
        sum = (int32_t)((uint32_t)sum +
                        (uint32_t)((int8_t)tiles.data[a][m][k] * (int)tiles.data[b][k / 4][4 * n + k % 4]));
      memcpy(&tiles.data[c][m][4 * n], &sum, 4);
    }
}

/* Executes the instruction at `at`; its length, or 0 if it is none of ours. */
static unsigned execute(const uint8_t *at, greg_t *regs) {
  static const int order[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
  if (at[0] != 0xc4 || (at[1] & 0x1f) != 2 || (at[2] & 0x84)) /* VEX, map 0F38, W0, 128 bits */
    return 0;
  unsigned x = !(at[1] & 0x40) << 3, b = !(at[1] & 0x20) << 3, v = ~(at[2] >> 3) & 15, prefix = at[2] & 3;
  unsigned opcode = at[3], mod = at[4] >> 6, reg = at[4] >> 3 & 7, rm = at[4] & 7;
  if (opcode != 0x49 && opcode != 0x4b && opcode != 0x5e)
    return 0;
  if (mod == 3) {
    if (opcode == 0x49 && prefix == 0 && reg == 0 && rm == 0) {
      memset(&tiles, 0, sizeof(tiles)); /* tilerelease */
      return 5;
    }
    if (opcode == 0x49 && prefix == 3 && rm == 0) {
      needs(reg); /* tilezero */
      memset(tiles.data[reg], 0, sizeof(tiles.data[reg]));
      return 5;
    }
    if (opcode == 0x5e && prefix == 2) {
      dot(reg, rm, v);
      return 5;
    }
    return 0;
  }
  unsigned length = 5;
  uint64_t base = 0, index = 0;
  int32_t displacement = 0;
  int wide = mod == 2;
  if (rm == 4) {
    unsigned sib = at[length++], i = (sib >> 3 & 7) | x, low = sib & 7;
    index = i == 4 ? 0 : (uint64_t)regs[order[i]] << (sib >> 6);
    if (low == 5 && mod == 0)
      wide = 1;
    else
      base = (uint64_t)regs[order[low | b]];
  } else if (mod == 0 && rm == 5) {
    base = (uint64_t)regs[REG_RIP] + length + 4;
    wide = 1;
  } else {
    base = (uint64_t)regs[order[rm | b]];
  }
  if (wide) {
    memcpy(&displacement, at + length, 4);
    length += 4;
  } else if (mod == 1) {
    displacement = (int8_t)at[length++];
  }
  uint8_t *address = (uint8_t *)(base + (uint64_t)(int64_t)displacement);
  if (opcode == 0x49 && prefix == 0 && reg == 0) {
    configure(address + index);
    return length;
  }
  if (opcode != 0x4b || rm != 4 || (prefix != 2 && prefix != 3))
    return 0;
  needs(reg);
  if (prefix == 3)
    memset(tiles.data[reg], 0, sizeof(tiles.data[reg]));
  for (unsigned m = 0; m < tiles.rows[reg]; ++m) {
    if (prefix == 3)
      memcpy(tiles.data[reg][m], address + m * index, tiles.cols[reg]); /* tileloadd */
    else
      memcpy(address + m * index, tiles.data[reg][m], tiles.cols[reg]); /* tilestored */
  }
  return length;
}

static void trapped(int signal, siginfo_t *info, void *context) {
  (void)info;
  greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
  unsigned length = execute((const uint8_t *)(uintptr_t)regs[REG_RIP], regs);
  if (!length) {
    struct sigaction usual;
    memset(&usual, 0, sizeof(usual));
    usual.sa_handler = SIG_DFL;
    sigaction(signal, &usual, NULL);
    return; /* and again, for good */
  }
  regs[REG_RIP] += length;
  __atomic_add_fetch(&executed, 1, __ATOMIC_RELAXED);
}

/* How many instructions on tiles were executed. */
unsigned long tiles_executed(void) { return executed; }

/* The runtime asks for tiles by this. */
long syscall(long number, ...) {
  long arguments[6];
  va_list list;
  va_start(list, number);
  for (int i = 0; i < 6; ++i)
    arguments[i] = va_arg(list, long);
  va_end(list);
  if (number == SYS_arch_prctl && arguments[0] == 0x1023)
    return 0;
  long result;
  register long r10 __asm__("r10") = arguments[3];
  register long r8 __asm__("r8") = arguments[4];
  register long r9 __asm__("r9") = arguments[5];
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(number), "D"(arguments[0]), "S"(arguments[1]), "d"(arguments[2]), "r"(r10), "r"(r8), "r"(r9)
                   : "rcx", "r11", "memory");
  if (result < 0 && result > -4096) {
    errno = (int)-result;
    return -1;
  }
  return result;
}

__attribute__((constructor)) static void start(void) {
  struct sigaction action;
  memset(&action, 0, sizeof(action));
  action.sa_sigaction = trapped;
  action.sa_flags = SA_SIGINFO | SA_NODEFER;
  sigaction(SIGILL, &action, NULL);
}
