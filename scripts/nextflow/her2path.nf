// HER2 on many slides: one task a slide, joined at the end.
//
//   nextflow run her2path.nf --manifest manifest.csv --out results
//
// Each slide is scored where the scheduler puts it; `her2path collect` makes cases, tables and the
// index. A slide that fails is left out by Nextflow and listed by `collect` in failures.csv.

params.manifest = 'manifest.csv'
params.out      = 'results'
params.settings = ''
params.container = ''

process score {
    tag "${slide_id}"
    cpus 4
    memory '8 GB'
    time '2 h'
    // 3: not readable, 4: read but not evaluable (its result is still collected)
    errorStrategy 'ignore'

    input:
    tuple val(slide_id), path(slide), val(mpp), val(guideline)

    output:
    path "${slide_id}"

    script:
    def settings = params.settings ? "-c ${params.settings}" : ''
    def pixel = mpp ? "--mpp ${mpp}" : ''
    def rules = guideline ? "--guideline ${guideline}" : ''
    """
    her2path score '${slide}' -o '${slide_id}' ${settings} ${pixel} ${rules} \\
        --workers ${task.cpus} --quiet || [ \$? -eq 4 ]
    """
}

process collect {
    publishDir params.out, mode: 'copy'
    cpus 2
    memory '8 GB'

    input:
    path results
    path manifest

    output:
    path 'batch'

    script:
    """
    her2path collect ${results} --manifest '${manifest}' -o batch || [ \$? -eq 3 ]
    """
}

workflow {
    rows = Channel.fromPath(params.manifest)
        .splitCsv(header: true)
        .map { row ->
            def slide = file(row.slide)
            tuple(row.slide_id ?: slide.baseName, slide, row.mpp ?: '', row.guideline ?: '')
        }
    score(rows)
    collect(score.out.collect(), file(params.manifest))
}
