/* Links the C driver to the library of the simulated hardware (sim/systolith/bench/rtl). */
#include "simulated_port.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void *sim_create(uint64_t base, uint64_t size, uint32_t latency, uint32_t outstanding, double stall,
                 uint64_t seed, const char *waves);
uint8_t *sim_memory(void *handle);
uint64_t sim_cycle(void *handle);
int sim_write_register(void *handle, uint32_t addr, uint32_t value);
int sim_read_register(void *handle, uint32_t addr, uint32_t *value);
int sim_wait_interrupt(void *handle, uint64_t limit);
uint64_t sim_violations(void *handle);

enum { MEMORY = 64 << 20, LATENCY = 40, OUTSTANDING = 16, PAUSE = 256 };

static void *simulator;

/* The simulated memory lies where the program's static objects do, so that addresses agree. */
static uint64_t memory_base(void) {
  static uint8_t here;
  return ((uintptr_t)&here - MEMORY / 2) & ~(uint64_t)(SYSTOLITH_REGION_ALIGNMENT - 1);
}

static void require(int holds, const char *text) {
  if (holds) return;
  fprintf(stderr, "%s\n", text);
  exit(2);
}

static uint32_t read(void *context, uint32_t addr) {
  uint32_t value = 0;
  require(sim_read_register(context, addr, &value), "a register did not answer a read");
  return value;
}

static void write(void *context, uint32_t addr, uint32_t value) {
  require(sim_write_register(context, addr, value), "a register did not answer a write");
  require(sim_violations(context) == 0, "the hardware broke a rule of AXI");
}

static void wait_a_little(void *context) { sim_wait_interrupt(context, PAUSE); }

static uint8_t *seen_by_device(void *context, const void *start, size_t bytes) {
  const uint64_t offset = (uintptr_t)start - memory_base();
  require(offset <= MEMORY && bytes <= MEMORY - offset, "memory is out of the simulator's reach");
  return sim_memory(context) + offset;
}

static void clean(void *context, const void *start, size_t bytes) {
  memcpy(seen_by_device(context, start, bytes), start, bytes);
}

static void invalidate(void *context, void *start, size_t bytes) {
  memcpy(start, seen_by_device(context, start, bytes), bytes);
}

systolith_port_t simulated_port(volatile uint32_t *registers) {
  systolith_port_t port;
  (void)registers;
  if (!simulator)
    simulator = sim_create(memory_base(), MEMORY, LATENCY, OUTSTANDING, 0.0, 0, NULL);
  memset(&port, 0, sizeof port);
  port.context = simulator;
  port.read = read;
  port.write = write;
  port.pause = wait_a_little;
  port.clean = clean;
  port.invalidate = invalidate;
  return port;
}

uint64_t simulated_cycle(void) { return sim_cycle(simulator); }
