"""From official files to the arrays that training reads."""
