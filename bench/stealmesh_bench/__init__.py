"""What Stealmesh is measured with: workloads with known answers, and the runs over them."""
