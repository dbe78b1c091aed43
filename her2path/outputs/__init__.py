"""What people see: report, viewer, exports. They read OUT, never the insides of a kernel."""
