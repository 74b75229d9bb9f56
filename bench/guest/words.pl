# Counts words with a hash, sorts them, and looks for patterns: what perl is mostly used for.
use strict;
use warnings;
my (%count, %pairs, $previous);
open my $in, '<', $ARGV[0] or die "$ARGV[0]: $!";
my ($lines, $found) = (0, 0);
while (my $line = <$in>) {
    last if ++$lines > 12000;
    chomp $line;
    for my $word (split ' ', $line) {
        $count{$word}++;
        $pairs{"$previous $word"}++ if defined $previous && length($word) > 5;
        $previous = $word;
    }
    $found++ while $line =~ /\b([a-z]+e)[a-z]* (\w*?t)h?\b/g;
    (my $copy = $line) =~ s/([aeiou])([^aeiou ])/$2$1/g;
    $found += length($copy) % 7 + ($copy =~ tr/a-m//);
}
my @top = sort { $count{$b} <=> $count{$a} || $a cmp $b } keys %count;
printf "%d %d %d\n", scalar @top, scalar keys %pairs, $found;
printf "%-12s %d\n", $_, $count{$_} for @top[0 .. 40];
