/* Driver of a Systolith accelerator for bare metal: C99, no allocation, no global state.
 *
 * One `systolith_t` is one accelerator. The caller owns it, the program and all buffers, and tells
 * by a `systolith_port_t` how registers are reached and what a cache needs. Typical use:
 *
 *     systolith_t npu;
 *     systolith_port_t port = systolith_mmio_port((volatile uint32_t *)0xA0000000u);
 *     systolith_memory_t memory = {buffer, (uintptr_t)buffer, sizeof buffer};
 *     if (systolith_open(&npu, &port, &memory) == SYSTOLITH_OK &&
 *         systolith_load(&npu, &digits) == SYSTOLITH_OK)
 *       status = systolith_infer(&npu, tensors, SYSTOLITH_NO_LIMIT);
 *
 * `digits` stands in a header that `systolith export` makes of a compiled program.
 * A structure must be used by one thread at a time; only systolith_acknowledge may be called from
 * an interrupt handler at any time.
 */
#ifndef SYSTOLITH_H
#define SYSTOLITH_H

#include <stddef.h>
#include <stdint.h>

#include "systolith_regs.h"

#ifdef __cplusplus
extern "C" {
#endif

#define SYSTOLITH_REGIONS 8u
#define SYSTOLITH_REGION_ALIGNMENT 4096u /* of device addresses: no burst touches two regions */
#define SYSTOLITH_NO_LIMIT 0u            /* wait for as long as it takes */

/* What a function has to say. Texts: systolith_status_text. */
typedef enum {
  SYSTOLITH_OK = 0,
  SYSTOLITH_BUSY,           /* a program is running */
  SYSTOLITH_FAULT,          /* the program was stopped; systolith_last_fault tells why */
  SYSTOLITH_TIMEOUT,        /* the limit was reached, and the program was aborted */
  SYSTOLITH_HUNG,           /* it did not stop when it was told to: reset the hardware */
  SYSTOLITH_NO_DEVICE,      /* what answers is no Systolith */
  SYSTOLITH_WRONG_ISA,      /* instruction set of another version */
  SYSTOLITH_WRONG_DIGEST,   /* the program was compiled for another configuration */
  SYSTOLITH_NO_PROGRAM,     /* nothing is loaded */
  SYSTOLITH_TOO_LARGE,      /* the program needs more memory than it was given */
  SYSTOLITH_BAD_ARGUMENT    /* a null pointer, a region, segment or address out of range */
} systolith_status_t;

/* Uses of the regions by compiled programs. */
typedef enum {
  SYSTOLITH_REGION_PROGRAM = 0,
  SYSTOLITH_REGION_CONSTANTS = 1,
  SYSTOLITH_REGION_INPUT = 2,
  SYSTOLITH_REGION_OUTPUT = 3,
  SYSTOLITH_REGION_ARENA = 4
} systolith_region_t;

#define SYSTOLITH_MAY_READ SYSTOLITH_REGION0_FLAGS_READ_MASK
#define SYSTOLITH_MAY_WRITE SYSTOLITH_REGION0_FLAGS_WRITE_MASK

/* Way to one accelerator. The last four members may be null. */
typedef struct {
  void *context; /* handed to each function */
  uint32_t (*read)(void *context, uint32_t addr);
  void (*write)(void *context, uint32_t addr, uint32_t value);
  void (*pause)(void *context); /* between two looks: sleep until an interrupt, or for a while */
  void (*clean)(void *context, const void *start, size_t bytes);  /* write back cached data */
  void (*invalidate)(void *context, void *start, size_t bytes);   /* forget cached data */
  void (*barrier)(void *context); /* order memory before registers; needed on weak orderings */
} systolith_port_t;

/* Memory that both sides see, at one address each. */
typedef struct {
  void *cpu;       /* where the processor sees it */
  uint64_t device; /* where the accelerator sees it */
  size_t bytes;
} systolith_memory_t;

/* A tensor at a byte offset of a segment's input or output region. */
typedef struct {
  uint32_t tensor; /* index in the tensors of the program */
  uint32_t offset;
  uint32_t bytes;
} systolith_binding_t;

typedef enum { SYSTOLITH_ACCELERATOR, SYSTOLITH_SOFTMAX } systolith_segment_kind_t;

/* Part of a program: instructions from doorbell to done, or one operator of the processor. */
typedef struct {
  systolith_segment_kind_t kind;
  /* accelerator */
  uint32_t code_offset; /* in bytes */
  uint32_t instructions;
  uint32_t input_bytes, output_bytes, arena_bytes; /* sizes of the regions */
  const systolith_binding_t *inputs;
  uint32_t input_count;
  const systolith_binding_t *outputs;
  uint32_t output_count;
  /* softmax over rows of int8, from the tensor of inputs[0] to that of outputs[0] */
  uint32_t rows, depth;
  int32_t multiplier, left_shift, lowest_difference;
} systolith_segment_t;

/* A compiled program. `code` and `constants` are copied by systolith_load. */
typedef struct {
  const char *name;
  uint64_t digest; /* of the configuration */
  uint32_t isa_version;
  const uint8_t *code;
  uint32_t code_bytes;
  const uint8_t *constants;
  uint32_t constants_bytes;
  const systolith_segment_t *segments;
  uint32_t segment_count;
  const uint32_t *tensor_bytes; /* size of each tensor */
  uint32_t tensor_count;
} systolith_program_t;

/* Why a program was stopped. */
typedef struct {
  enum systolith_fault code;
  uint32_t engine; /* 0 LOAD, 1 EXECUTE, 2 DRAIN, 3 STORE, 4 sequencer */
  uint32_t instruction;
  uint64_t address;
} systolith_fault_t;

/* An accelerator. Members are private. */
typedef struct {
  systolith_port_t port;
  systolith_memory_t memory;
  const systolith_program_t *program;
  size_t offsets[5]; /* of the regions in the memory */
} systolith_t;

/* Return a port to registers at an address of the processor. */
systolith_port_t systolith_mmio_port(volatile uint32_t *base);

/* Look for the accelerator, and stop what it is doing. `memory` is for programs and their data;
 * its device address must be a multiple of SYSTOLITH_REGION_ALIGNMENT. It may be null if only the
 * functions for regions and instructions of your own are used. */
systolith_status_t systolith_open(systolith_t *npu, const systolith_port_t *port,
                                  const systolith_memory_t *memory);

/* Digest of the configuration that the hardware was generated from. */
uint64_t systolith_digest(const systolith_t *npu);

/* Copy code and constants into the memory. The program itself must outlive its use. */
systolith_status_t systolith_load(systolith_t *npu, const systolith_program_t *program);

/* Run a whole program: tensors[n] is the n-th tensor of the program, of tensor_bytes[n] bytes;
 * those that the program does not read first are written. `limit` is how often the status may be
 * read per segment. */
systolith_status_t systolith_infer(systolith_t *npu, void *const *tensors, uint32_t limit);

/* The steps of which systolith_infer is made, for programs of one's own schedule. The inputs of
 * an accelerator segment are put to systolith_input, its outputs taken from systolith_output. */
void *systolith_input(systolith_t *npu, uint32_t offset);
const void *systolith_output(systolith_t *npu, uint32_t offset);
systolith_status_t systolith_start(systolith_t *npu, uint32_t segment);

/* Return at once: SYSTOLITH_BUSY, or how the last program ended. */
systolith_status_t systolith_poll(const systolith_t *npu);

/* Poll until the end, pausing in between; abort after `limit` polls. Outputs are valid on OK. */
systolith_status_t systolith_wait(systolith_t *npu, uint32_t limit);

/* Stop the program, and wait for it. The end is a fault, ABORTED. */
systolith_status_t systolith_abort(systolith_t *npu);

/* Clear the interrupt, and return the events (SYSTOLITH_IRQ_STATUS_*_MASK) that raised it. */
uint32_t systolith_acknowledge(const systolith_t *npu);

/* The first fault of the last program; its code is SYSTOLITH_FAULT_NONE if there was none. */
systolith_fault_t systolith_last_fault(const systolith_t *npu);

/* Raw access: regions and instructions without a program. `flags` are SYSTOLITH_MAY_*. */
systolith_status_t systolith_map_region(const systolith_t *npu, uint32_t region, uint64_t device,
                                        uint32_t bytes, uint32_t flags);
systolith_status_t systolith_start_at(const systolith_t *npu, uint32_t offset,
                                      uint32_t instructions);

/* Softmax of int8 rows, to the bit as TFLite's reference kernel. */
void systolith_softmax(const int8_t *input, int8_t *output, uint32_t rows, uint32_t depth,
                       int32_t multiplier, int32_t left_shift, int32_t lowest_difference);

const char *systolith_status_text(systolith_status_t status);
const char *systolith_fault_text(enum systolith_fault code);
const char *systolith_engine_text(uint32_t engine);

#ifdef __cplusplus
}
#endif

#endif
