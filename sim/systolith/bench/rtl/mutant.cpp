// Part of simulators of designs with mutants in them: says which one acts, and where counts begin.

#include <cstdint>

namespace {
int32_t chosen = 0, late = 0;
}

// Called by the design once each, when a simulation begins.
extern "C" int systolith_mutant() { return chosen; }
extern "C" int systolith_late() { return late; }

// Chooses the mutant of the simulations that begin from now on; zero is the design as it is.
extern "C" void sim_choose_mutant(uint32_t number) { chosen = static_cast<int32_t>(number); }

// Chooses the value that counters have at the start of a program, instead of zero.
extern "C" void sim_choose_late(uint32_t count) { late = static_cast<int32_t>(count); }
