// Part of simulators that count coverage: writes what the simulator that was made last has counted.

#include "verilated.h"
#include "verilated_cov.h"

extern "C" void sim_write_coverage(const char* path) {
  Verilated::threadContextp()->coveragep()->write(path);
}
