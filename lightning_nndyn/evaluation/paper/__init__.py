"""The experiments of section 4 and appendix A on recorded runs, beside the numbers that the paper prints."""
