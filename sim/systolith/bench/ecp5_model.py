"""What MULT18X18D of an ECP5 does, for simulators, as far as the gateware uses it."""

from types import SimpleNamespace

PLATFORM = SimpleNamespace(family="ecp5")
"""As much of a platform as makes the gateware use the primitive."""

_MODEL = """
module MULT18X18D({ports}, input SIGNEDA, SIGNEDB, SOURCEA, SOURCEB, CLK0, CLK1, CLK2, CLK3,
                  CE0, CE1, CE2, CE3, RST0, RST1, RST2, RST3, {products});
  parameter REG_INPUTA_CLK = "NONE", REG_INPUTB_CLK = "NONE", REG_OUTPUT_CLK = "NONE";
  parameter REG_INPUTA_CE = "CE0", REG_INPUTB_CE = "CE0", REG_OUTPUT_CE = "CE0";
  wire [3:0] ce = {{CE3, CE2, CE1, CE0}};
  function integer number(input [23:0] name); number = name[7:0] - "0"; endfunction
  localparam KEEPS_A = REG_INPUTA_CLK == "CLK0", KEEPS_B = REG_INPUTB_CLK == "CLK0";
  wire signed [17:0] in_a = {{{a}}}, in_b = {{{b}}};
  reg signed [17:0] a, b;
  reg signed [35:0] p;
  // Only what is asked for is modelled: registers at CLK0, signed, no cascades, no reset.
  initial if (!KEEPS_A && REG_INPUTA_CLK != "NONE" || !KEEPS_B && REG_INPUTB_CLK != "NONE"
              || REG_OUTPUT_CLK != "CLK0")
    $fatal(1, "registers");
  always @(posedge CLK0) begin
    if (!SIGNEDA || !SIGNEDB || SOURCEA || SOURCEB || RST0 || RST1 || RST2 || RST3)
      $fatal(1, "mode");
    if (ce[number(REG_INPUTA_CE)]) a <= in_a;
    if (ce[number(REG_INPUTB_CE)]) b <= in_b;
    if (ce[number(REG_OUTPUT_CE)]) p <= (KEEPS_A ? a : in_a) * (KEEPS_B ? b : in_b);
  end
  assign {{{p}}} = p;
endmodule
"""


def mult18x18d() -> str:
    """Return the primitive's behavior in Verilog.

    From Lattice's technical note FPGA-TN-02205.
    """
    names = {letter: [f"{letter}{bit}" for bit in range(18)] for letter in "ABC"}
    products = [f"P{bit}" for bit in range(36)]
    return _MODEL.format(
        ports=", ".join(f"input {name}" for line in names.values() for name in line),
        products=", ".join(f"output {name}" for name in products),
        a=", ".join(reversed(names["A"])),
        b=", ".join(reversed(names["B"])),
        p=", ".join(reversed(products)),
    )
