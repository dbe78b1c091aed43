"""Where the cells lie: regions, spatial statistics, intratumoural heterogeneity."""
