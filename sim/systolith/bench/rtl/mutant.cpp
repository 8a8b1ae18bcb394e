// Part of simulators of designs with mutants in them: says which one acts.

#include <cstdint>

namespace {
int32_t chosen = 0;
}

// Called by the design once, when a simulation begins.
extern "C" int systolith_mutant() { return chosen; }

// Chooses the mutant of the simulations that begin from now on; zero is the design as it is.
extern "C" void sim_choose_mutant(uint32_t number) { chosen = static_cast<int32_t>(number); }
