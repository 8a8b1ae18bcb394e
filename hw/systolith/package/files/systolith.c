/* Driver of a Systolith accelerator for bare metal; see systolith.h. */
#include "systolith.h"

#include <string.h>

enum {
  REGISTER_BYTES = 4,
  REGION_STRIDE = SYSTOLITH_REGION1_BASE_LO_ADDR - SYSTOLITH_REGION0_BASE_LO_ADDR,
  USED_REGIONS = 5
};

/* Longer than any instruction takes, even if it moves a whole scratchpad through a slow bus. */
static const uint32_t WATCHDOG_CYCLES = (uint32_t)1 << 22;
/* Looks at the status until a stopped program must have ended: its bursts are a few hundred. */
static const uint32_t STOP_LIMIT = 1000000u;
static const uint32_t EVENTS =
    SYSTOLITH_IRQ_ENABLE_DONE_MASK | SYSTOLITH_IRQ_ENABLE_FAULT_MASK;

static uint32_t read_register(const systolith_t *npu, uint32_t addr) {
  return npu->port.read(npu->port.context, addr);
}

static void write_register(const systolith_t *npu, uint32_t addr, uint32_t value) {
  npu->port.write(npu->port.context, addr, value);
}

static void take_a_break(const systolith_t *npu) {
  if (npu->port.pause) npu->port.pause(npu->port.context);
}

static void publish(const systolith_t *npu, const void *start, size_t bytes) {
  if (npu->port.clean) npu->port.clean(npu->port.context, start, bytes);
}

static void order(const systolith_t *npu) {
  if (npu->port.barrier) npu->port.barrier(npu->port.context);
}

static uint32_t mmio_read(void *context, uint32_t addr) {
  return ((volatile uint32_t *)context)[addr / REGISTER_BYTES];
}

static void mmio_write(void *context, uint32_t addr, uint32_t value) {
  ((volatile uint32_t *)context)[addr / REGISTER_BYTES] = value;
}

systolith_port_t systolith_mmio_port(volatile uint32_t *base) {
  systolith_port_t port;
  memset(&port, 0, sizeof port);
  port.context = (void *)base;
  port.read = mmio_read;
  port.write = mmio_write;
  return port;
}

/* Wait until nothing runs: after a watchdog fault, bursts may still be due. */
static systolith_status_t await_idle(const systolith_t *npu) {
  uint32_t looks;
  for (looks = 0; looks < STOP_LIMIT; ++looks) {
    if (!(read_register(npu, SYSTOLITH_STATUS_ADDR) & SYSTOLITH_STATUS_BUSY_MASK))
      return SYSTOLITH_OK;
    take_a_break(npu);
  }
  return SYSTOLITH_HUNG;
}

systolith_status_t systolith_open(systolith_t *npu, const systolith_port_t *port,
                                  const systolith_memory_t *memory) {
  if (!npu || !port || !port->read || !port->write) return SYSTOLITH_BAD_ARGUMENT;
  if (memory && (!memory->cpu || memory->device % SYSTOLITH_REGION_ALIGNMENT))
    return SYSTOLITH_BAD_ARGUMENT;
  memset(npu, 0, sizeof *npu);
  npu->port = *port;
  if (memory) npu->memory = *memory;
  if (read_register(npu, SYSTOLITH_ID_ADDR) != SYSTOLITH_ID_VALUE) return SYSTOLITH_NO_DEVICE;
  if (read_register(npu, SYSTOLITH_ISA_VERSION_ADDR) != SYSTOLITH_ISA_VERSION)
    return SYSTOLITH_WRONG_ISA;
  return systolith_abort(npu);
}

uint64_t systolith_digest(const systolith_t *npu) {
  const uint64_t high = read_register(npu, SYSTOLITH_DIGEST_HI_ADDR);
  return high << 32 | read_register(npu, SYSTOLITH_DIGEST_LO_ADDR);
}

/* Return whether a program is one that can be followed without leaving its arrays. */
static int is_sound(const systolith_program_t *program) {
  uint32_t n;
  if (!program || !program->code || !program->segments || !program->tensor_bytes) return 0;
  if (program->constants_bytes && !program->constants) return 0;
  for (n = 0; n < program->segment_count; ++n) {
    const systolith_segment_t *segment = &program->segments[n];
    const int is_softmax = segment->kind == SYSTOLITH_SOFTMAX;
    uint32_t k;
    if (is_softmax && (segment->input_count != 1 || segment->output_count != 1)) return 0;
    for (k = 0; k < segment->input_count + segment->output_count; ++k) {
      const int is_input = k < segment->input_count;
      const systolith_binding_t *binding =
          is_input ? &segment->inputs[k] : &segment->outputs[k - segment->input_count];
      const uint32_t room = is_input ? segment->input_bytes : segment->output_bytes;
      if (binding->tensor >= program->tensor_count) return 0;
      if (binding->bytes > program->tensor_bytes[binding->tensor]) return 0;
      if (!is_softmax && (binding->offset > room || binding->bytes > room - binding->offset))
        return 0;
    }
  }
  return 1;
}

static size_t round_up(size_t bytes) {
  const size_t page = SYSTOLITH_REGION_ALIGNMENT;
  return (bytes + page - 1) / page * page;
}

/* Give each region its place in the memory; regions of segments are as large as the largest. */
static systolith_status_t place(systolith_t *npu, const systolith_program_t *program) {
  size_t sizes[USED_REGIONS] = {0, 0, 0, 0, 0};
  size_t used = 0;
  uint32_t n;
  sizes[SYSTOLITH_REGION_PROGRAM] = program->code_bytes;
  sizes[SYSTOLITH_REGION_CONSTANTS] = program->constants_bytes;
  for (n = 0; n < program->segment_count; ++n) {
    const systolith_segment_t *segment = &program->segments[n];
    if (segment->input_bytes > sizes[SYSTOLITH_REGION_INPUT])
      sizes[SYSTOLITH_REGION_INPUT] = segment->input_bytes;
    if (segment->output_bytes > sizes[SYSTOLITH_REGION_OUTPUT])
      sizes[SYSTOLITH_REGION_OUTPUT] = segment->output_bytes;
    if (segment->arena_bytes > sizes[SYSTOLITH_REGION_ARENA])
      sizes[SYSTOLITH_REGION_ARENA] = segment->arena_bytes;
  }
  for (n = 0; n < USED_REGIONS; ++n) {
    if (sizes[n] > npu->memory.bytes - used) return SYSTOLITH_TOO_LARGE;
    npu->offsets[n] = used;
    used = round_up(used + sizes[n]);
    if (used > npu->memory.bytes) used = npu->memory.bytes;
  }
  return SYSTOLITH_OK;
}

static uint8_t *region_start(const systolith_t *npu, systolith_region_t region) {
  return (uint8_t *)npu->memory.cpu + npu->offsets[region];
}

systolith_status_t systolith_load(systolith_t *npu, const systolith_program_t *program) {
  systolith_status_t status;
  if (!npu || !npu->memory.cpu || !is_sound(program)) return SYSTOLITH_BAD_ARGUMENT;
  npu->program = NULL;
  if (program->isa_version != SYSTOLITH_ISA_VERSION) return SYSTOLITH_WRONG_ISA;
  if (program->digest != systolith_digest(npu)) return SYSTOLITH_WRONG_DIGEST;
  status = await_idle(npu);
  if (status == SYSTOLITH_OK) status = place(npu, program);
  if (status != SYSTOLITH_OK) return status;
  memcpy(region_start(npu, SYSTOLITH_REGION_PROGRAM), program->code, program->code_bytes);
  publish(npu, region_start(npu, SYSTOLITH_REGION_PROGRAM), program->code_bytes);
  if (program->constants_bytes) {
    memcpy(region_start(npu, SYSTOLITH_REGION_CONSTANTS), program->constants,
           program->constants_bytes);
    publish(npu, region_start(npu, SYSTOLITH_REGION_CONSTANTS), program->constants_bytes);
  }
  npu->program = program;
  return SYSTOLITH_OK;
}

void *systolith_input(systolith_t *npu, uint32_t offset) {
  return region_start(npu, SYSTOLITH_REGION_INPUT) + offset;
}

const void *systolith_output(systolith_t *npu, uint32_t offset) {
  return region_start(npu, SYSTOLITH_REGION_OUTPUT) + offset;
}

systolith_status_t systolith_map_region(const systolith_t *npu, uint32_t region, uint64_t device,
                                        uint32_t bytes, uint32_t flags) {
  const uint32_t stride = REGION_STRIDE * region;
  if (!npu || region >= SYSTOLITH_REGIONS || flags & ~(SYSTOLITH_MAY_READ | SYSTOLITH_MAY_WRITE))
    return SYSTOLITH_BAD_ARGUMENT;
  write_register(npu, SYSTOLITH_REGION0_BASE_LO_ADDR + stride, (uint32_t)device);
  write_register(npu, SYSTOLITH_REGION0_BASE_HI_ADDR + stride, (uint32_t)(device >> 32));
  write_register(npu, SYSTOLITH_REGION0_SIZE_ADDR + stride, bytes);
  write_register(npu, SYSTOLITH_REGION0_FLAGS_ADDR + stride, flags);
  return SYSTOLITH_OK;
}

systolith_status_t systolith_start_at(const systolith_t *npu, uint32_t offset,
                                      uint32_t instructions) {
  if (!npu) return SYSTOLITH_BAD_ARGUMENT;
  if (read_register(npu, SYSTOLITH_STATUS_ADDR) & SYSTOLITH_STATUS_BUSY_MASK)
    return SYSTOLITH_BUSY;
  write_register(npu, SYSTOLITH_PROGRAM_OFFSET_ADDR, offset);
  write_register(npu, SYSTOLITH_PROGRAM_COUNT_ADDR, instructions);
  write_register(npu, SYSTOLITH_WATCHDOG_ADDR, WATCHDOG_CYCLES);
  write_register(npu, SYSTOLITH_IRQ_STATUS_ADDR, EVENTS);
  write_register(npu, SYSTOLITH_IRQ_ENABLE_ADDR, EVENTS);
  order(npu);
  write_register(npu, SYSTOLITH_CONTROL_ADDR, SYSTOLITH_CONTROL_START_MASK);
  return SYSTOLITH_OK;
}

systolith_status_t systolith_start(systolith_t *npu, uint32_t index) {
  static const uint32_t flags[USED_REGIONS] = {
      SYSTOLITH_MAY_READ, SYSTOLITH_MAY_READ, SYSTOLITH_MAY_READ, SYSTOLITH_MAY_WRITE,
      SYSTOLITH_MAY_READ | SYSTOLITH_MAY_WRITE};
  const systolith_segment_t *segment;
  uint32_t sizes[USED_REGIONS];
  uint32_t n;
  if (!npu) return SYSTOLITH_BAD_ARGUMENT;
  if (!npu->program) return SYSTOLITH_NO_PROGRAM;
  if (index >= npu->program->segment_count ||
      npu->program->segments[index].kind != SYSTOLITH_ACCELERATOR)
    return SYSTOLITH_BAD_ARGUMENT;
  /* The region table is locked while a program runs. */
  if (read_register(npu, SYSTOLITH_STATUS_ADDR) & SYSTOLITH_STATUS_BUSY_MASK)
    return SYSTOLITH_BUSY;
  segment = &npu->program->segments[index];
  sizes[SYSTOLITH_REGION_PROGRAM] = npu->program->code_bytes;
  sizes[SYSTOLITH_REGION_CONSTANTS] = npu->program->constants_bytes;
  sizes[SYSTOLITH_REGION_INPUT] = segment->input_bytes;
  sizes[SYSTOLITH_REGION_OUTPUT] = segment->output_bytes;
  sizes[SYSTOLITH_REGION_ARENA] = segment->arena_bytes;
  for (n = 0; n < SYSTOLITH_REGIONS; ++n) {
    const uint32_t bytes = n < USED_REGIONS ? sizes[n] : 0;
    const uint64_t start = bytes ? npu->memory.device + npu->offsets[n] : 0;
    const systolith_status_t status =
        systolith_map_region(npu, n, start, bytes, bytes ? flags[n] : 0);
    if (status != SYSTOLITH_OK) return status;
  }
  publish(npu, region_start(npu, SYSTOLITH_REGION_INPUT), segment->input_bytes);
  /* Lines of the outputs that are dirty now would be written over them later. */
  publish(npu, region_start(npu, SYSTOLITH_REGION_OUTPUT), segment->output_bytes);
  return systolith_start_at(npu, segment->code_offset, segment->instructions);
}

systolith_status_t systolith_poll(const systolith_t *npu) {
  uint32_t status;
  if (!npu) return SYSTOLITH_BAD_ARGUMENT;
  status = read_register(npu, SYSTOLITH_STATUS_ADDR);
  /* After a watchdog fault the device stays busy until its bursts end; it has stopped already. */
  if (status & SYSTOLITH_STATUS_FAULT_MASK) return SYSTOLITH_FAULT;
  if (status & SYSTOLITH_STATUS_BUSY_MASK) return SYSTOLITH_BUSY;
  return status & SYSTOLITH_STATUS_DONE_MASK ? SYSTOLITH_OK : SYSTOLITH_NO_PROGRAM;
}

systolith_status_t systolith_wait(systolith_t *npu, uint32_t limit) {
  systolith_status_t status;
  uint32_t looks = 0;
  if (!npu) return SYSTOLITH_BAD_ARGUMENT;
  while ((status = systolith_poll(npu)) == SYSTOLITH_BUSY) {
    if (limit != SYSTOLITH_NO_LIMIT && ++looks >= limit)
      return systolith_abort(npu) == SYSTOLITH_OK ? SYSTOLITH_TIMEOUT : SYSTOLITH_HUNG;
    take_a_break(npu);
  }
  systolith_acknowledge(npu);
  order(npu);
  return status;
}

systolith_status_t systolith_abort(systolith_t *npu) {
  systolith_status_t status;
  if (!npu) return SYSTOLITH_BAD_ARGUMENT;
  write_register(npu, SYSTOLITH_CONTROL_ADDR, SYSTOLITH_CONTROL_ABORT_MASK);
  status = await_idle(npu);
  systolith_acknowledge(npu);
  return status;
}

uint32_t systolith_acknowledge(const systolith_t *npu) {
  const uint32_t events = read_register(npu, SYSTOLITH_IRQ_STATUS_ADDR);
  write_register(npu, SYSTOLITH_IRQ_STATUS_ADDR, events);
  return events;
}

systolith_fault_t systolith_last_fault(const systolith_t *npu) {
  const uint32_t value = read_register(npu, SYSTOLITH_FAULT_ADDR);
  const uint64_t high = read_register(npu, SYSTOLITH_FAULT_ADDR_HI_ADDR);
  systolith_fault_t fault;
  fault.code = (enum systolith_fault)((value & SYSTOLITH_FAULT_CODE_MASK) >>
                                      SYSTOLITH_FAULT_CODE_SHIFT);
  fault.engine = (value & SYSTOLITH_FAULT_ENGINE_MASK) >> SYSTOLITH_FAULT_ENGINE_SHIFT;
  fault.instruction = read_register(npu, SYSTOLITH_FAULT_INDEX_ADDR);
  fault.address = high << 32 | read_register(npu, SYSTOLITH_FAULT_ADDR_LO_ADDR);
  return fault;
}

static systolith_status_t run_accelerator(systolith_t *npu, uint32_t index, void *const *tensors,
                                          uint32_t limit) {
  const systolith_segment_t *segment = &npu->program->segments[index];
  systolith_status_t status = await_idle(npu);
  uint32_t n;
  if (status != SYSTOLITH_OK) return status;
  for (n = 0; n < segment->input_count; ++n) {
    const systolith_binding_t *binding = &segment->inputs[n];
    memcpy(systolith_input(npu, binding->offset), tensors[binding->tensor], binding->bytes);
  }
  status = systolith_start(npu, index);
  if (status == SYSTOLITH_OK) status = systolith_wait(npu, limit);
  if (status != SYSTOLITH_OK) return status;
  if (npu->port.invalidate)
    npu->port.invalidate(npu->port.context, region_start(npu, SYSTOLITH_REGION_OUTPUT),
                         segment->output_bytes);
  for (n = 0; n < segment->output_count; ++n) {
    const systolith_binding_t *binding = &segment->outputs[n];
    memcpy(tensors[binding->tensor], systolith_output(npu, binding->offset), binding->bytes);
  }
  return SYSTOLITH_OK;
}

systolith_status_t systolith_infer(systolith_t *npu, void *const *tensors, uint32_t limit) {
  uint32_t n;
  if (!npu || !tensors) return SYSTOLITH_BAD_ARGUMENT;
  if (!npu->program) return SYSTOLITH_NO_PROGRAM;
  for (n = 0; n < npu->program->tensor_count; ++n)
    if (!tensors[n]) return SYSTOLITH_BAD_ARGUMENT;
  for (n = 0; n < npu->program->segment_count; ++n) {
    const systolith_segment_t *segment = &npu->program->segments[n];
    if (segment->kind == SYSTOLITH_SOFTMAX) {
      systolith_softmax((const int8_t *)tensors[segment->inputs[0].tensor],
                        (int8_t *)tensors[segment->outputs[0].tensor], segment->rows,
                        segment->depth, segment->multiplier, segment->left_shift,
                        segment->lowest_difference);
    } else {
      const systolith_status_t status = run_accelerator(npu, n, tensors, limit);
      if (status != SYSTOLITH_OK) return status;
    }
  }
  return SYSTOLITH_OK;
}

const char *systolith_status_text(systolith_status_t status) {
  switch (status) {
    case SYSTOLITH_OK: return "done";
    case SYSTOLITH_BUSY: return "a program is running";
    case SYSTOLITH_FAULT: return "the program was stopped by a fault";
    case SYSTOLITH_TIMEOUT: return "the program did not end in time and was aborted";
    case SYSTOLITH_HUNG: return "the accelerator does not stop; reset it";
    case SYSTOLITH_NO_DEVICE: return "no Systolith answers at this address";
    case SYSTOLITH_WRONG_ISA: return "hardware and program differ in their instruction set";
    case SYSTOLITH_WRONG_DIGEST: return "the program was compiled for another configuration";
    case SYSTOLITH_NO_PROGRAM: return "no program is loaded, or none has run";
    case SYSTOLITH_TOO_LARGE: return "the program needs more memory";
    case SYSTOLITH_BAD_ARGUMENT: return "an argument is null or out of range";
  }
  return "unknown status";
}

const char *systolith_fault_text(enum systolith_fault code) {
  switch (code) {
    case SYSTOLITH_FAULT_NONE: return "no fault";
    case SYSTOLITH_FAULT_ILLEGAL_OPCODE: return "unknown opcode";
    case SYSTOLITH_FAULT_RESERVED_BITS: return "reserved bits of an instruction are set";
    case SYSTOLITH_FAULT_FIELD_RANGE: return "a field does not fit this configuration";
    case SYSTOLITH_FAULT_REGION_BOUNDS: return "access outside its region";
    case SYSTOLITH_FAULT_REGION_PERMISSION: return "the region does not permit this access";
    case SYSTOLITH_FAULT_LOCAL_ADDRESS: return "access outside a local memory";
    case SYSTOLITH_FAULT_ALIGNMENT: return "an address or size is not aligned";
    case SYSTOLITH_FAULT_PORT_CONFLICT: return "two accesses met in one memory bank";
    case SYSTOLITH_FAULT_BUS_READ: return "the bus answered a read with an error";
    case SYSTOLITH_FAULT_BUS_WRITE: return "the bus answered a write with an error";
    case SYSTOLITH_FAULT_WATCHDOG: return "no instruction completed for too long";
    case SYSTOLITH_FAULT_ABORTED: return "aborted by software";
    case SYSTOLITH_FAULT_SOFT_ERROR: return "a bit changed by itself; run the program once more";
  }
  return "unknown fault";
}

const char *systolith_engine_text(uint32_t engine) {
  static const char *const names[] = {"LOAD", "EXECUTE", "DRAIN", "STORE", "sequencer"};
  return engine < sizeof names / sizeof names[0] ? names[engine] : "unknown engine";
}

/* Softmax: TFLite's reference kernel on gemmlowp's fixed-point numbers. "Qm.n" is an int32 with
 * m integer and n fraction bits. Shifts of negative numbers are written as divisions, because C
 * leaves their result open. */

static int64_t floor_shift(int64_t value, unsigned bits) {
  return value >= 0 ? (int64_t)((uint64_t)value >> bits)
                    : -1 - (int64_t)((uint64_t)(-1 - value) >> bits);
}

/* Multiply two Q0.31: round to nearest, ties up, saturate. */
static int64_t high_mul(int64_t a, int64_t b) {
  const int64_t product = a * b;
  const int64_t one = (int64_t)1 << 31;
  const int64_t half = (int64_t)1 << 30;
  const int64_t result = (product >= 0 ? product + half : product + 1 - half) / one;
  return result > INT32_MAX ? INT32_MAX : result;
}

/* Divide by a power of two: round to nearest, ties away from zero. */
static int64_t rounding_shift(int64_t value, unsigned bits) {
  const int64_t mask = ((int64_t)1 << bits) - 1;
  const int64_t threshold = mask / 2 + (value < 0);
  const int64_t floor = floor_shift(value, bits);
  const int64_t rest = value - floor * (mask + 1);
  return floor + (rest > threshold);
}

/* exp of a Q5.26 that is at most zero, as Q0.31. */
static int64_t exp_of_negative(int64_t value) {
  static const int32_t factors[] = {1672461947, 1302514674, 790015084, 290630308,
                                    39332535,   720401,     242}; /* exp(-2^k), k from -2 */
  const int64_t quarter = (int64_t)1 << 24;
  const int64_t exp_minus_eighth = 1895147668, one_third = 715827883;
  int64_t inside, remainder, x, x2, x3, x4_over_4, higher, result;
  unsigned k;
  if (value == 0) return INT32_MAX;
  inside = (value - floor_shift(value, 24) * quarter) - quarter;
  remainder = inside - value;
  x = inside * 32 + ((int64_t)1 << 28); /* Q0.31, around -1/8 */
  x2 = high_mul(x, x);
  x3 = high_mul(x2, x);
  x4_over_4 = rounding_shift(high_mul(x2, x2), 2);
  higher = rounding_shift(high_mul(x4_over_4 + x3, one_third) + x2, 1);
  result = exp_minus_eighth + high_mul(exp_minus_eighth, x + higher);
  for (k = 0; k < sizeof factors / sizeof factors[0]; ++k)
    if ((uint64_t)remainder >> (24 + k) & 1) result = high_mul(result, factors[k]);
  return result;
}

static int64_t saturated(int64_t value) {
  return value > INT32_MAX ? INT32_MAX : value < INT32_MIN ? INT32_MIN : value;
}

/* 1 / (1 + x) of a Q0.31 in [0, 1), by Newton's method. */
static int64_t one_over_one_plus(int64_t value) {
  const int64_t forty_eight_over_17 = 1515870810, minus_32_over_17 = -1010580540; /* Q2.29 */
  const int64_t one = (int64_t)1 << 29;
  const int64_t half_denominator = (value + INT32_MAX + 1) / 2;
  int64_t x = forty_eight_over_17 + high_mul(half_denominator, minus_32_over_17);
  int step;
  for (step = 0; step < 3; ++step)
    x += saturated(high_mul(x, one - high_mul(half_denominator, x)) * 4);
  return saturated(x * 2);
}

static void softmax_row(const int8_t *input, int8_t *output, uint32_t depth, int32_t multiplier,
                        int32_t left_shift, int32_t lowest_difference) {
  const int64_t unit = (int64_t)1 << left_shift;
  int64_t total = 0, scale;
  int32_t largest = INT8_MIN;
  unsigned headroom = 0, shift;
  uint32_t n;
  for (n = 0; n < depth; ++n)
    if (input[n] > largest) largest = input[n];
  for (n = 0; n < depth; ++n) {
    const int32_t difference = input[n] - largest;
    if (difference >= lowest_difference)
      total += rounding_shift(exp_of_negative(high_mul(difference * unit, multiplier)), 12);
  }
  while (total << headroom < (int64_t)1 << 31) ++headroom;
  scale = one_over_one_plus((total << headroom) - ((int64_t)1 << 31));
  shift = 12 - headroom + 31 - 8;
  for (n = 0; n < depth; ++n) {
    const int32_t difference = input[n] - largest;
    int64_t value = 0;
    if (difference >= lowest_difference)
      value = rounding_shift(
          high_mul(scale, exp_of_negative(high_mul(difference * unit, multiplier))), shift);
    output[n] = (int8_t)(value > 255 ? 127 : value - 128);
  }
}

void systolith_softmax(const int8_t *input, int8_t *output, uint32_t rows, uint32_t depth,
                       int32_t multiplier, int32_t left_shift, int32_t lowest_difference) {
  uint32_t row;
  for (row = 0; row < rows; ++row)
    softmax_row(input + (size_t)row * depth, output + (size_t)row * depth, depth, multiplier,
                left_shift, lowest_difference);
}
