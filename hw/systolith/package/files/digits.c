/* Example: classify a handwritten digit. `digits.h` is made of the model of the same name by
 *
 *     systolith compile digits.tflite --config config.toml -o digits.systolith
 *     systolith export digits.systolith -o digits.h
 */
#include "digits.h"

#include <stdio.h>

/* Where the block design of vivado_zynq.tcl puts the registers. */
#define REGISTERS ((volatile uint32_t *)0xA0000000u)

enum { SIDE = 8, DIGITS = 10 };

/* A "4": pixels from 0 to 16, minus 128. */
static const int8_t image[SIDE * SIDE] = {
    -128, -128, -128, -126, -114, -127, -128, -128, -128, -128, -128, -114, -120, -128, -128, -128,
    -128, -128, -120, -113, -127, -128, -128, -128, -128, -128, -115, -122, -128, -123, -117, -128,
    -128, -125, -113, -128, -128, -118, -119, -128, -128, -119, -115, -124, -121, -112, -125, -128,
    -128, -121, -112, -112, -112, -115, -128, -128, -128, -128, -125, -126, -112, -122, -128, -128};

/* Memory for code, weights and tensors, seen by both sides at the same address. */
static uint8_t buffer[64 * 1024] __attribute__((aligned(4096)));

/* Return the digit in an image, or minus the status if the accelerator did not answer. */
static int classify(systolith_t *npu, const int8_t *pixels) {
  int8_t input[DIGITS_IMAGE_BYTES], logits[DIGITS_DENSE_BYTES], scores[DIGITS_SCORES_BYTES];
  void *tensors[DIGITS_TENSORS];
  systolith_status_t status;
  int digit, best = 0;
  for (digit = 0; digit < SIDE * SIDE; ++digit) input[digit] = pixels[digit];
  tensors[DIGITS_IMAGE] = input;
  tensors[DIGITS_DENSE] = logits;
  tensors[DIGITS_SCORES] = scores;
  status = systolith_infer(npu, tensors, SYSTOLITH_NO_LIMIT);
  if (status != SYSTOLITH_OK) return -(int)status;
  for (digit = 0; digit < DIGITS; ++digit) {
    printf("%d: %d/256\n", digit, scores[digit] + 128);
    if (scores[digit] > scores[best]) best = digit;
  }
  return best;
}

int main(void) {
  systolith_port_t port = systolith_mmio_port(REGISTERS);
  systolith_memory_t memory;
  systolith_status_t status;
  systolith_t npu;
  int digit;
  memory.cpu = buffer;
  memory.device = (uintptr_t)buffer;
  memory.bytes = sizeof buffer;
  status = systolith_open(&npu, &port, &memory);
  if (status == SYSTOLITH_OK) status = systolith_load(&npu, &digits);
  if (status != SYSTOLITH_OK) {
    printf("accelerator: %s\n", systolith_status_text(status));
    return 1;
  }
  digit = classify(&npu, image);
  if (digit < 0) {
    const systolith_fault_t fault = systolith_last_fault(&npu);
    printf("%s: %s, engine %s, instruction %lu\n",
           systolith_status_text((systolith_status_t)-digit), systolith_fault_text(fault.code),
           systolith_engine_text(fault.engine), (unsigned long)fault.instruction);
    return 1;
  }
  printf("this is a %d\n", digit);
  return 0;
}
