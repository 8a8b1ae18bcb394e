// Runs one block again and again on the same inputs, each time with one bit flipped.

#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "Vbench.h"
#include "verilated.h"

namespace {

struct Flip {
  uint32_t cycle, which, place, row;
};

// First cycles, plus one, in which an output was wrong and in which each alarm was raised; 0: never.
struct Result {
  uint32_t wrong;
  uint32_t alarms[ALARMS];
};

struct Inputs {
  const uint32_t* in;
  uint64_t cycles;
};

// Runs all cycles; calls visit(cycle, top) when outputs are settled, before the clock edge.
template <class Visit>
void run(VerilatedContext* context, const Inputs& inputs, const Flip& flip, Visit visit) {
  Vbench top(context);
  for (uint64_t cycle = 0; cycle < inputs.cycles; ++cycle) {
    const bool flips = flip.which && flip.cycle == cycle;
    top.clk = 0;
    top.rst = cycle == 0;
    top.which = flips ? flip.which : 0;
    top.place = flip.place;
    top.row = flip.row;
    std::memcpy(top.in.data(), inputs.in + cycle * IN_WORDS, 4 * IN_WORDS);
    top.eval();
    visit(cycle, top);
    top.clk = 1;
    top.eval();
  }
  top.final();
}

}  // namespace

extern "C" {

// Fills `out` with the outputs of a run without flip; returns the alarms that it raised.
uint32_t flips_clean(const uint32_t* in, uint64_t cycles, uint32_t* out) {
  VerilatedContext context;
  uint32_t alarms = 0;
  run(&context, {in, cycles}, {}, [&](uint64_t cycle, Vbench& top) {
    std::memcpy(out + cycle * OUT_WORDS, top.out.data(), 4 * OUT_WORDS);
    alarms |= top.alarm;
  });
  return alarms;
}

void flips_run(const uint32_t* in, uint64_t cycles, const uint32_t* clean, const uint32_t* mask,
               const Flip* flips, uint64_t count, Result* results) {
  VerilatedContext context;
  for (uint64_t number = 0; number < count; ++number) {
    Result result{};
    run(&context, {in, cycles}, flips[number], [&](uint64_t cycle, Vbench& top) {
      for (unsigned bit = 0; bit < ALARMS; ++bit)
        if (!result.alarms[bit] && (top.alarm >> bit & 1)) result.alarms[bit] = cycle + 1;
      if (result.wrong) return;
      for (unsigned word = 0; word < OUT_WORDS; ++word) {
        const uint64_t at = cycle * OUT_WORDS + word;
        if ((top.out[word] ^ clean[at]) & mask[at]) result.wrong = cycle + 1;
      }
    });
    results[number] = result;
  }
}

}  // extern "C"
