/* A simulated accelerator behind the C driver's port, with memory that is not coherent. */
#ifndef SIMULATED_PORT_H
#define SIMULATED_PORT_H

#include "systolith.h"

/* Return a port to the simulator; the argument, an address of registers, is not used. What the
 * driver does not clean or invalidate, the other side does not see. */
systolith_port_t simulated_port(volatile uint32_t *registers);

/* Register accesses so far, and cycles. */
uint64_t simulated_cycle(void);

#endif
