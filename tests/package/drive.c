/* Drives the simulated hardware through the C driver, and says what it answers.
 *
 *     drive digits IMAGES COUNT   scores of each image, one line each
 *     drive errors                what each misuse gives, and that the next run is right
 */
#include "digits.h"
#include "simulated_port.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint8_t buffer[64 * 1024] __attribute__((aligned(4096)));
static int8_t image[DIGITS_IMAGE_BYTES], logits[DIGITS_DENSE_BYTES], scores[DIGITS_SCORES_BYTES];
static void *tensors[DIGITS_TENSORS];

static systolith_memory_t whole_buffer(void) {
  systolith_memory_t memory;
  memory.cpu = buffer;
  memory.device = (uintptr_t)buffer;
  memory.bytes = sizeof buffer;
  return memory;
}

static void say(const char *what, systolith_status_t status) {
  printf("%s: %d %s\n", what, (int)status, systolith_status_text(status));
}

static void say_fault(const char *what, const systolith_t *npu) {
  const systolith_fault_t fault = systolith_last_fault(npu);
  printf("%s: %s, engine %s, instruction %lu, address offset %ld\n", what,
         systolith_fault_text(fault.code), systolith_engine_text(fault.engine),
         (unsigned long)fault.instruction, (long)(int64_t)(fault.address - (uintptr_t)buffer));
}

static void say_scores(void) {
  unsigned n;
  for (n = 0; n < sizeof scores; ++n) printf(n ? " %d" : "%d", scores[n]);
  putchar('\n');
}

static int classify_all(systolith_t *npu, const char *path, int count) {
  FILE *file = fopen(path, "rb");
  if (!file) return 1;
  while (count-- > 0) {
    systolith_status_t status;
    if (fread(image, 1, sizeof image, file) != sizeof image) return 1;
    status = systolith_infer(npu, tensors, SYSTOLITH_NO_LIMIT);
    if (status != SYSTOLITH_OK) return 1;
    say_scores();
  }
  fclose(file);
  return 0;
}

static void misuse(systolith_t *npu) {
  systolith_memory_t memory = whole_buffer();
  systolith_port_t port = npu->port;
  systolith_program_t program = digits;
  systolith_segment_t segments[2];
  memory.device += 1;
  say("unaligned memory", systolith_open(npu, &port, &memory));
  memory = whole_buffer();
  memory.bytes = 16 * 1024;
  systolith_open(npu, &port, &memory);
  say("little memory", systolith_load(npu, &digits));
  say("no program", systolith_infer(npu, tensors, SYSTOLITH_NO_LIMIT));
  memory = whole_buffer();
  say("open", systolith_open(npu, &port, &memory));
  program.digest ^= 1;
  say("other digest", systolith_load(npu, &program));
  program = digits;
  program.isa_version += 1;
  say("other instruction set", systolith_load(npu, &program));
  program = digits;
  program.tensor_count = 1;
  say("tensor out of range", systolith_load(npu, &program));
  program = digits;
  memcpy(segments, digits.segments, sizeof segments);
  program.segments = segments;
  segments[0].output_bytes = 1;
  say("binding out of range", systolith_load(npu, &program));
  say("load", systolith_load(npu, &digits));
  say("segment out of range", systolith_start(npu, 7));
  say("region out of range", systolith_map_region(npu, SYSTOLITH_REGIONS, 0, 0, 0));
  tensors[DIGITS_DENSE] = NULL;
  say("no tensor", systolith_infer(npu, tensors, SYSTOLITH_NO_LIMIT));
  tensors[DIGITS_DENSE] = logits;
}

static void faults(systolith_t *npu) {
  systolith_program_t program = digits;
  systolith_segment_t segments[2];
  say("busy", (systolith_start(npu, 0), systolith_start(npu, 0)));
  say("busy too", systolith_poll(npu));
  say("time-out", systolith_wait(npu, 1));
  say_fault("after time-out", npu);
  memcpy(segments, digits.segments, sizeof segments);
  segments[0].instructions = 3;
  program.segments = segments;
  systolith_load(npu, &program);
  say("no halt", systolith_infer(npu, tensors, SYSTOLITH_NO_LIMIT));
  say_fault("after no halt", npu);
  systolith_load(npu, &digits);
  systolith_map_region(npu, SYSTOLITH_REGION_PROGRAM, npu->memory.device, digits.code_bytes,
                       SYSTOLITH_MAY_WRITE);
  say("raw start", systolith_start_at(npu, 0, digits.segments[0].instructions));
  say("raw wait", systolith_wait(npu, SYSTOLITH_NO_LIMIT));
  say_fault("after raw wait", npu);
  say("good run", systolith_infer(npu, tensors, SYSTOLITH_NO_LIMIT));
  say_fault("after good run", npu);
  printf("events left: %lu\n", (unsigned long)systolith_acknowledge(npu));
}

int main(int count, char **words) {
  systolith_port_t port = simulated_port(NULL);
  systolith_memory_t memory = whole_buffer();
  systolith_t npu;
  if (count < 2) return 2;
  tensors[DIGITS_IMAGE] = image;
  tensors[DIGITS_DENSE] = logits;
  tensors[DIGITS_SCORES] = scores;
  if (systolith_open(&npu, &port, &memory) != SYSTOLITH_OK) return 1;
  if (!strcmp(words[1], "errors")) {
    misuse(&npu);
    faults(&npu);
    return 0;
  }
  if (count < 4 || systolith_load(&npu, &digits) != SYSTOLITH_OK) return 1;
  return classify_all(&npu, words[2], atoi(words[3]));
}
