// HER2 on many slides: one task a slide, joined at the end.
//
//   nextflow run her2path.nf --manifest manifest.csv --out results
//
// Each slide is scored where the scheduler puts it; `her2path collect` makes cases, tables and the
// index. A slide that fails is left out by Nextflow and listed by `collect` in failures.csv. Paths
// in the manifest are relative to it, and visible under the same path on every machine.

params.manifest = 'manifest.csv'
params.out      = 'results'
params.settings = ''

process score {
    tag "${name}"
    cpus 4
    memory '8 GB'
    time '2 h'
    // 3: not readable; 4, read but not evaluable, has a result that is collected
    errorStrategy 'ignore'

    input:
    tuple val(name), path(slide), val(mpp), val(guideline), val(annotations)

    output:
    path "${name}"

    script:
    // what a manifest says is one word for the shell; Nextflow itself sees to `path`
    def word = { v -> v.toString().replace("'", "'\\''") }
    def settings = params.settings ? "-c '${word(params.settings)}'" : ''
    def pixel = mpp ? "--mpp '${word(mpp)}'" : ''
    def rules = guideline ? "--guideline '${word(guideline)}'" : ''
    def areas = annotations ? "--annotations '${word(annotations)}'" : ''
    """
    her2path score ${slide} -o ${name} ${settings} ${pixel} ${rules} ${areas} \\
        --workers ${task.cpus} --quiet || [ \$? -eq 4 ]
    """
}

process collect {
    publishDir params.out, mode: 'copy'
    cpus 2
    memory '8 GB'

    input:
    path results
    // its path, not a copy: what it names is relative to it
    val manifest

    output:
    path 'batch'

    script:
    """
    her2path collect ${results} --manifest '${manifest}' -o batch || [ \$? -eq 3 ]
    """
}

workflow {
    def table = file(params.manifest).toAbsolutePath()
    def beside = { name -> name ? table.parent.resolve(name) : '' }
    def rows = Channel.fromPath(params.manifest)
        .splitCsv(header: true, quote: '"')
        .map { row ->
            def slide = beside(row.slide)
            // one folder, whatever the manifest says; `collect` knows it again
            def name = (row.slide_id ?: slide.baseName).replaceAll(/[^A-Za-z0-9._-]+/, '_')
            tuple(name.replaceAll(/^[._-]+/, ''), slide, row.mpp ?: '', row.guideline ?: '',
                  beside(row.annotations).toString())
        }
    score(rows)
    collect(score.out.collect(), table.toString())
}
