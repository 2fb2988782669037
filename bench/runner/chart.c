typedef int chart_unused;
