# Builds a Zynq block design around the accelerator: processing system, register port, memory port,
# interrupt, one clock. For Zynq UltraScale+ (xczu...) and Zynq-7000 (xc7z...).
#
#   vivado -mode batch -source scripts/vivado_zynq.tcl -tclargs PART [FOLDER [CLOCK_MHZ [STEP]]]
#
#   PART       for instance xczu3eg-sbva484-1-e or xc7z020clg400-1
#   FOLDER     of the project to make (default: vivado)
#   CLOCK_MHZ  of the accelerator (default: @CLOCK_MHZ@)
#   STEP       design: block design only (default); bitstream: all the way
#
# A board's own settings of the processing system (DDR, pins) come from its board files: set
# BOARD_PART in the environment, and they are applied.

if {[llength $argv] < 1} {
  error "PART must be given: vivado -mode batch -source vivado_zynq.tcl -tclargs PART"
}
set part [lindex $argv 0]
set folder [expr {[llength $argv] > 1 ? [lindex $argv 1] : "vivado"}]
set clock_mhz [expr {[llength $argv] > 2 ? [lindex $argv 2] : "@CLOCK_MHZ@"}]
set step [expr {[llength $argv] > 3 ? [lindex $argv 3] : "design"}]
set package [file normalize [file join [file dirname [info script]] ..]]

# Names that differ between the families.
if {[string match "xczu*" $part]} {
  set ps_type xilinx.com:ip:zynq_ultra_ps_e
  set ps_config [list \
    CONFIG.PSU__USE__M_AXI_GP0 1 CONFIG.PSU__USE__M_AXI_GP1 0 CONFIG.PSU__USE__M_AXI_GP2 0 \
    CONFIG.PSU__USE__S_AXI_GP2 1 CONFIG.PSU__USE__IRQ0 1 \
    CONFIG.PSU__FPGA_PL0_ENABLE 1 CONFIG.PSU__CRL_APB__PL0_REF_CTRL__FREQMHZ $clock_mhz]
  set ps_rule xilinx.com:bd_rule:zynq_ultra_ps_e
  array set ps {clock pl_clk0 reset pl_resetn0 control M_AXI_HPM0_FPD memory S_AXI_HP0_FPD \
    control_clock maxihpm0_fpd_aclk memory_clock saxihp0_fpd_aclk interrupt pl_ps_irq0}
  set base 0xA0000000
} elseif {[string match "xc7z*" $part]} {
  set ps_type xilinx.com:ip:processing_system7
  set ps_config [list \
    CONFIG.PCW_USE_M_AXI_GP0 1 CONFIG.PCW_USE_S_AXI_HP0 1 \
    CONFIG.PCW_USE_FABRIC_INTERRUPT 1 CONFIG.PCW_IRQ_F2P_INTR 1 \
    CONFIG.PCW_EN_CLK0_PORT 1 CONFIG.PCW_FPGA0_PERIPHERAL_FREQMHZ $clock_mhz]
  set ps_rule xilinx.com:bd_rule:processing_system7
  array set ps {clock FCLK_CLK0 reset FCLK_RESET0_N control M_AXI_GP0 memory S_AXI_HP0 \
    control_clock M_AXI_GP0_ACLK memory_clock S_AXI_HP0_ACLK interrupt IRQ_F2P}
  set base 0x40000000
} else {
  error "PART must be a Zynq UltraScale+ (xczu...) or a Zynq-7000 (xc7z...), not $part"
}

create_project systolith $folder -part $part -force
if {[info exists ::env(BOARD_PART)]} {
  set_property board_part $::env(BOARD_PART) [current_project]
}
add_files [list [file join $package rtl systolith.v] [file join $package rtl systolith_ram.v]]
update_compile_order -fileset sources_1

create_bd_design system
set cpu [create_bd_cell -type ip -vlnv $ps_type cpu]
if {[info exists ::env(BOARD_PART)]} {
  apply_bd_automation -rule $ps_rule -config {apply_board_preset 1} $cpu
}
set_property -dict $ps_config $cpu
set npu [create_bd_cell -type module -reference systolith npu]
set reset [create_bd_cell -type ip -vlnv xilinx.com:ip:proc_sys_reset reset]

# Two interconnects: widths and protocols of the ports differ from those of the accelerator.
foreach path {control memory} {
  set cell [create_bd_cell -type ip -vlnv xilinx.com:ip:smartconnect ${path}_connect]
  set_property CONFIG.NUM_SI 1 $cell
}

set clock [get_bd_pins cpu/$ps(clock)]
foreach pin [list npu/ap_clk reset/slowest_sync_clk control_connect/aclk memory_connect/aclk \
             cpu/$ps(control_clock) cpu/$ps(memory_clock)] {
  connect_bd_net $clock [get_bd_pins $pin]
}
connect_bd_net [get_bd_pins cpu/$ps(reset)] [get_bd_pins reset/ext_reset_in]
foreach pin {npu/ap_rst_n control_connect/aresetn memory_connect/aresetn} {
  connect_bd_net [get_bd_pins reset/peripheral_aresetn] [get_bd_pins $pin]
}
connect_bd_net [get_bd_pins npu/interrupt] [get_bd_pins cpu/$ps(interrupt)]

foreach {from to} [list \
    cpu/$ps(control) control_connect/S00_AXI  control_connect/M00_AXI npu/s_axi_control \
    npu/m_axi_gmem memory_connect/S00_AXI     memory_connect/M00_AXI cpu/$ps(memory)] {
  connect_bd_intf_net [get_bd_intf_pins $from] [get_bd_intf_pins $to]
}

# Registers: 4 KiB. The accelerator sees the memory where the processor does.
assign_bd_address -offset $base -range 4K [get_bd_addr_segs npu/s_axi_control/*]
assign_bd_address
validate_bd_design
save_bd_design

make_wrapper -files [get_files system.bd] -top -import
set_property top system_wrapper [current_fileset]
update_compile_order -fileset sources_1

if {$step eq "bitstream"} {
  launch_runs impl_1 -to_step write_bitstream -jobs 4
  wait_on_run impl_1
  if {[get_property PROGRESS [get_runs impl_1]] ne "100%"} {
    error "Implementation must end, and did not; see its log in $folder"
  }
  write_hw_platform -fixed -include_bit -force [file join $folder systolith.xsa]
}
puts "Block design is in $folder; registers of the accelerator are at $base"
